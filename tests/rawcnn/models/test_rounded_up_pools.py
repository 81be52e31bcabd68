"""Pools that round up, as in torchvision's GoogLeNet and the squeeze-and-excitation networks, at odd and even sizes."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from math import ceil

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn.models.googlenet import ROUNDED_UP, googlenet
from rawcnn.nn.trace import symbolic_trace
from rawcnn.weights import load_weights
from tests import references


@pytest.mark.parametrize("taps", [2, 3])
def test_sizes_follow_the_formula(taps):
    """⌈(n − k)/2⌉ + 1 outputs, each the maximum of what its window has of the image."""
    for size in range(taps, 15):
        x = references.random((1, size, size + 1, 2), size)
        y = kernels.max_pool(x, taps, 2, ROUNDED_UP)
        rows, columns = (ceil((length - taps) / 2) + 1 for length in (size, size + 1))
        assert y.shape == (1, rows, columns, 2)
        for p, q in np.ndindex(rows, columns):
            window = x[:, 2 * p : 2 * p + taps, 2 * q : 2 * q + taps]
            np.testing.assert_array_equal(y[:, p, q], tf.reduce_max(window, axis=(1, 2)))


def rounded_up(size: int, taps: int = 3) -> int:
    return ceil((size - taps) / 2) + 1


def output_shapes(size: int, **options) -> dict[str, tuple[int, ...]]:
    operations = symbolic_trace(partial(googlenet, **options), (1, size, size, 3)).operations
    return {operation.name: operation.output_shape[1:3] for operation in operations}


@pytest.mark.sample("100", "225")
@pytest.mark.parametrize("size", [65, 97, 100, 224, 225, 299])
def test_maps_of_googlenet(size):
    """torchvision's form rounds up; the paper's has ⌈n/2⌉ outputs everywhere, as TensorFlow's "SAME"."""
    stem = ceil(size / 2)  # conv1 has stride 2 and is padded by 3
    pools = [rounded_up(stem)]
    for taps in (3, 3, 2):
        pools.append(rounded_up(pools[-1], taps))
    shapes = output_shapes(size, torchvision=True)
    assert [shapes[f"pool{n}"] for n in (1, 2, 3, 4)] == [(side, side) for side in pools]
    halves = [ceil(size / 2**n) for n in (2, 3, 4, 5)]
    shapes = output_shapes(size)
    assert [shapes[f"pool{n}"] for n in (1, 2, 3, 4)] == [(side, side) for side in halves]


def test_padding_of_even_maps_is_a_word():
    """So twins and profiles of 224 pixels stay as they were."""
    for operation in symbolic_trace(partial(googlenet, torchvision=True), (1, 224, 224, 3)).operations:
        if operation.kind == "max_pool":
            assert operation.settings["padding"] == ("VALID" if operation.settings["size"] == 2 else "SAME")


@pytest.mark.slow
def test_unknown_sizes_round_up_too():
    network = rawcnn.create("googlenet", torchvision=True, classes=2)
    compiled = tf.function(network, autograph=False, input_signature=[tf.TensorSpec([None, None, None, 3])])
    images = references.random((1, 65, 70, 3), low=0.0)
    references.close(compiled(images), network(images), "network")


# TensorFlow and PyTorch in one process may crash, so PyTorch runs in one of its own.
TORCH = """
import sys, numpy as np, torch
name, folder = sys.argv[1:]
torch.manual_seed(0)
if name == "googlenet":
    import torchvision
    model = torchvision.models.googlenet(weights=None, aux_logits=False, transform_input=False, init_weights=False)
else:
    import timm
    model = timm.create_model(name, pretrained=False)
for values in model.state_dict().values():  # the first values of batch norms would hide faults
    if values.ndim == 1:
        values.uniform_(0.5, 1.5)
torch.save(model.state_dict(), folder + "/weights.pth")
images = np.load(folder + "/images.npz")
with torch.no_grad():
    model.eval()
    logits = {size: model(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy() for size, x in images.items()}
np.savez(folder + "/logits.npz", **logits)
"""
SIZES = [(65, 65), (97, 97), (100, 100), (225, 225), (299, 299), (97, 130)]
NAMES = {
    "googlenet": "googlenet",
    "se_resnet50": "legacy_seresnet50",
    "se_resnext50": "legacy_seresnext50_32x4d",
    "senet154": "legacy_senet154",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_logits_of_torch(name, tmp_path):
    """torchvision's GoogLeNet and timm's networks of the SENet authors, with random weights, at odd and even sizes."""
    if not find_spec("torchvision") or not find_spec("timm"):
        pytest.skip("needs PyTorch, torchvision and timm")
    images = {str(size): np.random.default_rng(0).random((1, *size, 3), np.float32) for size in SIZES}
    np.savez(tmp_path / "images.npz", **images)
    subprocess.run([sys.executable, "-c", TORCH, NAMES[name], str(tmp_path)], check=True)
    options = {"torchvision": True} if name == "googlenet" else {}
    network = rawcnn.create(name, preprocessing="none", **options)
    load_weights(network, tmp_path / "weights.pth")
    logits = np.load(tmp_path / "logits.npz")
    for size, x in images.items():
        references.close(network(x), logits[size], "gated network")
