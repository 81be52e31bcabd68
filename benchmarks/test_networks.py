"""pytest-benchmark: inference and training step of each network, one group per (network, job, precision, batch).

The contestants are those of `benchmarks.races.contestants`. They share the weights and are compared before they are
measured. By default one small network runs, in training without the contestants that XLA compiles for long. `--full`
runs one network per family at its full size, with all contestants, and also in bfloat16. The rounds of one contestant
follow each other here. The documents quote `rawcnn benchmark`, which interleaves them.
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
    """Return a network and its twin on a batch of random images, and their initial weights."""
    keras.backend.clear_session()
    network = rawcnn.create(model, size=size, precision=precision)
    generator = np.random.default_rng(0)
    images = generator.random((batch, *network.image_size, 3), np.float32)
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
        compare_gradients(expected, contestant.gradients(), precision, name=name)
    benchmark.group = f"{model} {job} {precision} batch {batch}"
    benchmark.pedantic(contestant.run, rounds=10, warmup_rounds=1)
    setup.reset(start)
