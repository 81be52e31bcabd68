"""What visualization by optimization claims, on real images: it beats the best of them, and remedies remove noise."""

from __future__ import annotations

import numpy as np
import pytest

import rawcnn
from rawcnn.data import load
from rawcnn.visualize import objectives, top_inputs
from rawcnn.visualize.optimization import optimize
from rawcnn.visualize.regularization import COMPARED, STILL

UNITS, LAYERS = 64, 4


def against_the_best(network, data, layers, steps: int) -> np.ndarray:
    """Of UNITS units, drawn by seed from these layers: what their image reaches over what the best real one does.

    The real one may excite the unit anywhere in it. A unit that no real image excites counts as infinitely better.
    """
    generator = np.random.default_rng(0)
    ratios: list[float] = []
    for layer in layers:
        width = network.operation(layer).output_shape[-1]
        channels = sorted(generator.choice(width, UNITS // len(layers), replace=False).tolist())
        objective = objectives.neuron(network, layer, channels)
        found = optimize(network, objective, steps=steps, regularization=STILL)
        best = top_inputs(network, data, layer, channels, 1, split="test")
        real = np.array([best[c][0].activation for c in channels])
        ratios += np.where(real > 0, found.values / np.where(real > 0, real, 1), np.inf).tolist()
    assert len(ratios) == UNITS
    return np.array(ratios)


def test_digits(trained, digits):
    """A small network that was trained here, all 355 test images; its two hidden layers and its logits."""
    layers = ["bn1/relu", "conv2/relu"] * 4  # of eight channels each
    assert np.mean(against_the_best(trained[0], digits, layers, steps=128) >= 1) >= 0.9


@pytest.mark.slow
def test_cifar(data_folder, cifar10_folder):
    """A published ResNet-20 and the 10,000 test images."""
    network = rawcnn.create("cifar_resnet20")
    rawcnn.load_weights(network, data_folder / "cifar-resnet20-torch.safetensors")
    data = load(f"folder:{cifar10_folder}")
    assert data.count("test") == 10_000
    rectified = [o.name for o in network.operations if o.kind == "relu"]
    layers = sorted(np.random.default_rng(0).choice(rectified, LAYERS, replace=False), key=rectified.index)
    ratios = against_the_best(network, data, layers, steps=128)
    assert np.mean(ratios >= 1) >= 0.9 and np.median(ratios) >= 2

    images = {
        name: optimize(network, "conv4_1/relu", list(range(0, 64, 8)), steps=128, regularization=COMPARED[name])
        for name in ("none", "blur", "Fourier + robustness")
    }
    noise = images["none"].high_frequency
    for name in ("blur", "Fourier + robustness"):
        assert np.median(images[name].high_frequency / noise) < 0.25, name

    pair = objectives.weighted_units(network, "conv4_1/relu", {5: 2, 16: 1})
    (image,) = optimize(network, pair, steps=128, regularization=STILL).images
    fifth, sixteenth = (
        network.activations(image[None], ["conv4_1/relu"])["conv4_1/relu"].numpy().mean((0, 1, 2))[[5, 16]]
    )
    assert fifth / sixteenth == pytest.approx(2, abs=0.4)  # a plain weighted sum ends near 1


@pytest.mark.slow
def test_weighted_units_hold_the_proportion_approximately(data_folder):
    """What the docstring of `weighted_units` says. The proportions of a plain weighted sum are further from 2."""
    network = rawcnn.create("cifar_resnet20")
    rawcnn.load_weights(network, data_folder / "cifar-resnet20-torch.safetensors")
    generator = np.random.default_rng(0)
    pairs = [generator.choice(64, 2, replace=False).tolist() for _ in range(12)]

    def proportions(power: float) -> np.ndarray:
        found = []
        for first, second in pairs:
            objective = objectives.weighted_units(network, "conv4_1/relu", {first: 2, second: 1}, cosine_power=power)
            images = optimize(network, objective, steps=128, regularization=STILL).images
            means = network.activations(images, ["conv4_1/relu"])["conv4_1/relu"].numpy().mean((0, 1, 2))
            found.append(means[first] / max(means[second], 1e-9))
        return np.array(found)

    held, plain = proportions(4.0), proportions(0.0)
    assert held.min() > 1.3 and held.max() < 3.6 and np.median(held) == pytest.approx(2, abs=0.25)
    assert np.median(np.abs(np.log(held / 2))) < 0.5 * np.median(np.abs(np.log(plain / 2)))
