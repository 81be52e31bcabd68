"""What the attacks must reach on real images: a published CIFAR-10 network, and one that learns digits here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rawcnn
from rawcnn import data
from rawcnn.attacks import (
    deepfool,
    evolve,
    fgsm,
    make_patch,
    make_substitute,
    patch,
    pgd,
    smallest,
    spatial,
    substitute,
)
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training

pytestmark = pytest.mark.slow
EIGHT = 8 / 255


@pytest.fixture(scope="module")
def cifar(data_folder, cifar10_folder):
    """The published ResNet-20, the data set, and 512 test images of all classes."""
    network = rawcnn.create("cifar_resnet20")
    rawcnn.load_weights(network, data_folder / "cifar-resnet20-torch.safetensors")
    images = data.load(f"folder:{cifar10_folder}")
    chosen = np.random.Generator(np.random.PCG64(0)).permutation(images.count("test"))[:512]
    return network, images, images.take("test", chosen), images.splits["test"].labels[chosen]


@pytest.fixture(scope="module")
def reader(digits):
    """A ResNet-20 that reads digits: 12 epochs, in which it learns to be sure."""
    network = rawcnn.create("cifar_resnet20", classes=10, size=8)
    recipe = replace(RECIPES["digits"], epochs=12, label_smoothing=0.0)
    accuracy = Training(network, recipe).fit(digits).accuracy
    assert accuracy > 0.97
    return network


def accuracy(result) -> float:
    return float(np.mean(result.predictions == result.labels))


def test_fgsm_and_pgd(cifar):
    network, _, images, labels = cifar
    fast = fgsm(network, images, labels, epsilon=EIGHT)
    assert accuracy(fast) < 0.25
    slow = pgd(network, images, labels, epsilon=EIGHT, steps=20)
    assert accuracy(slow) < 0.01
    for epsilon in (1 / 255, EIGHT):
        settings = {"epsilon": epsilon, "step": epsilon / 4, "steps": 20}
        once = fgsm(network, images[:256], labels[:256], epsilon=epsilon)
        often = pgd(network, images[:256], labels[:256], restarts=3, **settings)
        assert np.all(often.success[once.success])
    narrow, wide = (pgd(network, images[:128], labels[:128], precision=p, **settings) for p in ("bfloat16", "float32"))
    assert np.all(narrow.success[wide.success])


def test_deepfool_is_three_times_nearer_than_fgsm(cifar):
    network, _, images, labels = cifar
    near = deepfool(network, images[:128], labels[:128])
    epsilon, far = smallest(network, images[:128], labels[:128], largest=32 / 255)
    ok = ~near.already_wrong & np.isfinite(epsilon)
    assert near.success.all() and ok.sum() > 75
    assert np.mean(far.columns()["l2"][ok]) > 3 * np.mean(near.columns()["l2"][ok])


def test_rotations_and_translations(cifar):
    network, _, images, labels = cifar
    few, known = images[:40], labels[:40]
    grid, worst, drawn = (
        spatial(network, few, known, **settings)
        for settings in ({}, {"method": "worst"}, {"method": "worst", "trials": 1})
    )
    assert accuracy(grid) <= accuracy(worst) <= accuracy(drawn) < np.mean(drawn.predictions_before == known)
    assert accuracy(grid) < 0.15


def test_a_patch_of_a_tenth_of_the_area(cifar):
    network, whole, images, labels = cifar
    training, _ = next(whole.batches("train", 4000, seed=0))
    made = make_patch(network, training, target=3, scale=(0.2, 0.6), steps=700)
    assert patch(network, images, labels, patch=made, epsilon=0.1).summary()["success_rate"] > 0.7


def test_a_black_box_of_labels(reader, digits):
    images, labels = digits.arrays("test")
    made = make_substitute(reader, images[:100], classes=10, limit=6400)
    assert made.queries <= 6400
    result = substitute(reader, images[100:], labels[100:], substitute=made, epsilon=0.3)
    assert result.summary()["success_rate"] > 0.6


@pytest.mark.parametrize("encoding", ["direct", "cppn"])
def test_evolved_images_are_digits_for_the_network(reader, encoding):
    found = evolve(reader, encoding=encoding, generations=150, grey=True)
    assert np.median(found.confidences) >= 0.99
