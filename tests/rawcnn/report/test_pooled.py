"""The network that the tour deconvolves: its pictures depend on the image, which those of a ResNet-20 do not."""

from __future__ import annotations

import numpy as np
import pytest

import rawcnn
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.report.pooled import LAYER, has_switches, train_pooled
from rawcnn.report.sections import deconvolution, top_inputs
from rawcnn.visualize import deconvolve
from tests import references


@pytest.fixture(scope="module")
def pooled(digits):
    steps = []
    network = train_pooled(digits, 0, lambda done, total: steps.append((done, total)))
    assert steps[-1][0] == steps[-1][1] and steps == sorted(steps)
    return network


def distinct(pictures: np.ndarray) -> int:
    """How many of the pictures [N,H,W,3] differ in more than their strength."""
    found: list[np.ndarray] = []
    for picture in pictures:
        unit = picture / np.linalg.norm(picture)
        if not any(np.abs(unit - other).max() < 1e-4 for other in found):
            found.append(unit)
    return len(found)


def test_it_has_learned_the_digits(pooled, digits):
    assert evaluate(pooled, digits).accuracy > 0.9


def test_the_deconvnets_pictures_depend_on_the_image(pooled, digits):
    """At one position, so that neither place nor strength tells the images apart."""
    tops = top_inputs.TopInputs({LAYER: top_inputs.top_inputs(pooled, digits, LAYER, count=16)}).shown(LAYER)
    for channel, inputs in tops.items():
        places = [top.position for top in inputs]
        position = max(set(places), key=places.count)
        images = np.stack([top.image for top in inputs if top.position == position])
        pictures = deconvolve(pooled, images, LAYER, channel, position).pictures
        assert distinct(pictures) > len(images) / 2, channel


def test_without_max_pools_they_do_not(digits):
    network = rawcnn.create("cifar_resnet20", size=8)
    assert not has_switches(network) and has_switches(rawcnn.create("alexnet", classes=3, size=67))
    images = references.random((6, 8, 8, 3), 1, low=0.0)
    pictures = deconvolve(network, images, "conv4_3", 3, (1, 0), seed="one").pictures
    assert distinct(pictures) == 1
    assert distinct(deconvolve(network, images, "conv4_3", 3, (1, 0), method="guided").pictures) == 6


@pytest.mark.parametrize("network, said", [("cifar_resnet20", "has no max-pool"), ("resnet18", "has max-pools")])
def test_the_section_says_what_a_network_shows(network, said, digits, tmp_path):
    from rawcnn.report.album import Album

    built = rawcnn.create(network, classes=10, size=32)
    layer = top_inputs.layers_of(built)[0]
    tops = {0: top_inputs.top_inputs(built, rawcnn.data.load("digits", size=32), layer, [0], 2, split="test")[0]}
    found = deconvolution.deconvolve_tops(built, layer, tops, gray=True)
    text = str(deconvolution.section(found, Album(tmp_path)))
    assert said in text and "Nie et al. 2018" in text and "Adebayo et al. 2018" in text
