"""pytest-benchmark: each network's inference and training step, a group for each (network, job, precision, batch).

The contestants are those of `benchmarks.races.contestants`, with the same weights, compared before they are measured.
By default one small network and, in training, no contestant that XLA compiles for long; `--full` takes one network of
each family at its own size, with all contestants, in bfloat16 too. Rounds here follow each other; `rawcnn benchmark`
interleaves them and is what results are quoted from.
"""

from __future__ import annotations

from functools import lru_cache

import keras
import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.agreement import compare_gradients, compare_logits, network_gradients
from benchmarks.races.contestants import JOBS, NAMES
from benchmarks.races.setup import Setup
from benchmarks.run import MODELS
from benchmarks.twins.keras import keras_twin

QUICK = {"inference": NAMES, "training": ("rawcnn graph", "keras default", "keras function")}


def pytest_generate_tests(metafunc):
    full = metafunc.config.getoption("--full")
    races = [
        (model, None if full else 16, job, precision, 8 if full else 2, name)
        for model in (MODELS if full else ("cifar_resnet20",))
        for precision in (("float32", "bfloat16") if full else ("float32",))
        for job in JOBS
        for name in (NAMES if full else QUICK[job])
    ]
    metafunc.parametrize("model, size, job, precision, batch, name", races, ids=lambda v: str(v).replace(" ", "-"))


@lru_cache(maxsize=1)  # tests of one network follow each other
def prepared(model: str, size: int | None, precision: str, batch: int):
    """Network and twin on a batch of random images, and the weights that they start from."""
    keras.backend.clear_session()
    network = rawcnn.create(model, size=size, precision=precision)
    generator = np.random.default_rng(0)
    images = generator.random((batch, network.input_size, network.input_size, 3), np.float32)
    labels = generator.integers(0, network.classes, batch).astype(np.int32)
    setup = Setup(network, keras_twin(network, precision), tf.constant(images), tf.constant(labels))
    return setup, {path: v.numpy() for path, v in network.variables.items()}


def test_network(benchmark, model, size, job, precision, batch, name):
    setup, start = prepared(model, size, precision, batch)
    contestant = JOBS[job](setup, name)
    result = contestant.run()
    assert np.all(np.isfinite(result))
    setup.reset(start)
    network = setup.network
    if job == "inference":
        compare_logits(network(setup.images), result, precision, name)
    elif contestant.gradients and precision == "float32" and not any(op.kind == "dropout" for op in network.operations):
        expected = network_gradients(network, setup.images, setup.labels)
        compare_gradients(expected, contestant.gradients(), precision, who=name)
    benchmark.group = f"{model} {job} {precision} batch {batch}"
    benchmark.pedantic(contestant.run, rounds=10, warmup_rounds=1)
    setup.reset(start)
