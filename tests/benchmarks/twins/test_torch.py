"""PyTorch's twin and its contestants agree with rawcnn for all kinds of layers (if PyTorch is installed)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from benchmarks.races import networks as race
from benchmarks.stablehlo import arrays, peers
from benchmarks.twins.specification import model_of
from tests import references
from tests.benchmarks.toys import batch, everything, small, toy

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")

from benchmarks.twins.torch import Twin  # noqa: E402  (it imports PyTorch)


@pytest.mark.parametrize("preprocessing", ["none", "centered", "torch", "caffe"])
def test_logits_are_those_of_the_network(preprocessing):
    network = toy(everything, preprocessing=preprocessing)
    images, _ = batch(network)
    twin = Twin(model_of(network))
    twin.load({path: v.numpy() for path, v in network.variables.items()})
    twin.eval()
    with torch.inference_mode():
        logits = twin(torch.from_numpy(images.numpy())).numpy()
    references.close(logits, network(images), "network")


def test_weights_come_back():
    network = toy(everything)
    twin, values = Twin(model_of(network)), {path: v.numpy() for path, v in network.variables.items()}
    twin.load(values)
    for path, value in twin.values().items():
        np.testing.assert_array_equal(value, values[path], path)


@pytest.mark.parametrize("job", ["inference", "training"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_races(job, precision):
    """Contestants are timed only if their logits, or losses and gradients, agree."""
    names = ("rawcnn graph", "keras default", "torch eager")
    result = race.race(toy(small, precision), job, batch=3, rounds=1, contestants=names)
    assert [t.name for t in result.timings] == list(names)
    assert all(t.difference is not None for t in result.timings)  # this network has no dropout


@pytest.mark.parametrize("job", ["inference", "training"])
def test_it_runs_beside_an_exported_workload(tmp_path, job):
    """Without TensorFlow: the loss or the logits, with weights that are drawn from the seed."""
    network = rawcnn.create("cifar_resnet20", size=8)
    model, paths = model_of(network), {path: tuple(v.shape) for path, v in network.variables.items()}
    manifest = {"job": job, "precision": "float32", "model": json.loads(model.to_json()), "paths": paths}
    assert peers.names(manifest, ["torch"]) == ["torch eager", "torch compile"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    made = peers.make("torch eager", tmp_path, 3)["torch eager"]
    for path, value in arrays.variables(paths).items():
        network.variables[path].assign(value)
    images, labels = arrays.draw("images", (3, 8, 8, 3), "uniform"), arrays.draw("labels", (3,), "labels", "int32")
    expected = network(images)
    if job == "training":
        expected = tf.reduce_mean(kernels.cross_entropy(network.forward(images, train=True, seed=0).logits, labels))
    references.close(made.first(), expected, "network")
