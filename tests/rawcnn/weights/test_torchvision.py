"""torchvision's and timm's networks with random weights, saved by PyTorch: equal logits at many sizes.

These tests need PyTorch, torchvision and timm, and are skipped without them.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.nn.preprocessing import PREPROCESSING
from tests import references

MODELS = {  # rawcnn's name → (library, its name)
    "alexnet_one_tower": ("torchvision", "alexnet"),
    "vgg16": ("torchvision", "vgg16"),
    "resnet18": ("torchvision", "resnet18"),
    "resnet50": ("torchvision", "resnet50"),
    "resnext50": ("torchvision", "resnext50_32x4d"),
    "googlenet": ("torchvision", "googlenet"),
    "inception_v3": ("torchvision", "inception_v3"),
    "inception_v4": ("timm", "inception_v4"),
    "inception_resnet_v2": ("timm", "inception_resnet_v2"),
    "se_resnet50": ("timm", "seresnet50"),
    "se_resnext50": ("timm", "seresnext50_32x4d"),
    "se_resnext50 legacy": ("timm", "legacy_seresnext50_32x4d"),
    "senet154": ("timm", "legacy_senet154"),
}
SIZES = {  # height and width: even, odd, and not square
    "alexnet_one_tower": ((224, 224), (225, 225), (227, 239), (100, 100), (161, 161), (300, 300)),
    "vgg16": ((224, 224), (225, 225), (224, 255), (64, 64), (97, 97)),
    "inception_v3": ((96, 96), (107, 107), (224, 160), (111, 150)),
    "inception_v4": ((96, 96), (107, 107), (111, 150)),
    "inception_resnet_v2": ((96, 96), (107, 107), (111, 150)),
}
OTHERS = ((64, 64), (65, 65), (97, 97), (96, 160), (75, 130), (225, 225))
CASES = [(name, size) for name in MODELS for size in SIZES.get(name, OTHERS)]


@cache
def logits(name: str, folder: Path) -> tuple[dict, dict]:
    """Return (PyTorch's logits, rawcnn's) of one photograph, by its size."""
    library, there = MODELS[name]
    for package in ("torch", library):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    preprocess = PREPROCESSING["centered" if "inception" in name or name == "googlenet" else "torch"]
    sizes = {f"{h}×{w}": (h, w) for case, (h, w) in CASES if case == name}
    inputs = {key: preprocess(_photograph(*size)).numpy().transpose(0, 3, 1, 2) for key, size in sizes.items()}
    np.savez(folder / "inputs.npz", **inputs)
    files = [folder / "inputs.npz", folder / "weights.pth", folder / "logits.npz"]
    script = Path(__file__).parent / "torchvision_logits.py"
    subprocess.run([sys.executable, script, library, there, *files], check=True)
    network = rawcnn.create(name.split()[0], weights=folder / "weights.pth")
    found = {}
    for key, size in sizes.items():
        if name in ("alexnet_one_tower", "vgg16") and size[0] == size[1]:  # fully connected layers read one size of map
            network = rawcnn.create(name, size=size[0], weights=folder / "weights.pth")
        found[key] = network(_photograph(*size)).numpy()
    with np.load(folder / "logits.npz") as arrays:
        return {**arrays}, found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    yield tmp_path_factory.mktemp("torchvision")
    logits.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name, size", CASES, ids=[f"{name}-{h}×{w}" for name, (h, w) in CASES])
def test_logits_agree(name, size, folder):
    """To 1e-4 of the largest logit."""
    expected, found = logits(name, folder)
    key = "{}×{}".format(*size)
    references.close(found[key], expected[key], "network")


def _photograph(height: int, width: int) -> tf.Tensor:
    """Return a real photograph, [1,H,W,3] in [0,1]."""
    from sklearn.datasets import load_sample_images

    return tf.image.resize(load_sample_images().images[0] / 255, (height, width))[None]
