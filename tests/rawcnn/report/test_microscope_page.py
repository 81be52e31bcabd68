"""The page of a run under the microscope, drawn from made-up measurements."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import rawcnn
from rawcnn.plots.microscope import chosen_epochs
from rawcnn.report.microscope_page import comparison, write_page
from rawcnn.training.microscope import layers_of
from rawcnn.training.observations import Observations
from tests.rawcnn import small


def observations(network, epochs: int, counterpart=None) -> Observations:
    """Rows of random values; the last one has values that are not finite."""
    layers, generator = layers_of(network), np.random.default_rng(0)
    seen = Observations(layers, (), counterpart or {})
    for epoch in range(epochs):
        values = {"loss": np.array(1.0)}
        counts = {"activation_norm": layers.outputs, "gradient_norm": layers.outputs, "dead_units": layers.relus}
        counts |= {"dead_channels": layers.relus, "weight_norm": layers.weights}
        counts |= {"weight_gradient_norm": layers.weights, "update_ratio": layers.weights}
        values |= {name: generator.random(len(names)) for name, names in counts.items()}
        if epoch == epochs - 1:
            values["gradient_norm"][0], values["update_ratio"][0] = np.nan, np.inf
        if layers.first:
            values["filters"] = generator.normal(size=network.variables[layers.first].shape).astype(np.float32)
        seen = seen.adding(epoch, 0.1, values)
    return seen


def test_some_epochs_are_chosen():
    assert [chosen_epochs(range(count), 8) for count in (1, 2, 8)] == [[0], [0, 1], [0, 1, 2, 3, 5, 7]]
    places = chosen_epochs(range(65), 8)
    assert places[0] == 0 and places[-1] == 64 and len(places) <= 8
    gaps = np.diff(places)
    assert (gaps[1:] >= gaps[:-1]).all()


def test_the_comparison_names_both_networks():
    text = comparison({"cifar_plain20": {"a/filters": 6.0, "b/filters": 2.0}, "cifar_resnet20": {"a/filters": 1.0}})
    assert "`cifar_plain20`: 3 times; `cifar_resnet20`: 1 times" in text


@pytest.mark.deeper
@pytest.mark.parametrize("epochs, splits", [(1, "test"), (12, "validation")])
def test_the_page_shows_every_quantity(tmp_path, epochs, splits):
    network = rawcnn.create("cifar_resnet20", size=8)
    counterpart = dict.fromkeys(layers_of(network).weights, 1.0)
    history = [
        {"epoch": n + 1, "train_loss": 1.0, "train_accuracy": 0.5, f"{splits}_loss": 1.0, f"{splits}_accuracy": 0.5}
        for n in range(epochs - 1)
    ]
    page = write_page(
        tmp_path / "page", network, observations(network, epochs, counterpart), history, "Recipe <digits>."
    )
    text = page.read_text(encoding="utf-8")
    for words in ("Dead ReLUs", "conv4_3/relu", "Update ratio", "cifar_plain20", "Recipe &lt;digits&gt;.", "epoch 0"):
        assert words in text
    assert ("Loss and accuracy" in text) == (epochs > 1) and text.count('class="strip"') == len(
        chosen_epochs(range(epochs), 8)
    )
    names = {part.split('"')[0] for attribute in ('src="', 'srcset="') for part in text.split(attribute)[1:]}
    assert names and {path.name for path in page.parent.iterdir()} == {*names, "index.html"}
    for name in names:
        Image.open(page.parent / name).verify()


@pytest.mark.deeper
def test_a_network_whose_filters_read_no_colors(tmp_path):
    network = rawcnn.create("cifar_resnet20", size=8, discretize="thermometer")
    assert layers_of(network).first == ""
    page = write_page(tmp_path / "page", network, observations(network, 2), [], "")
    assert "its filters cannot be drawn" in page.read_text(encoding="utf-8")


@pytest.mark.deeper
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "page").write_text("a file")
    network = small.network()
    with pytest.raises(ValueError, match="is a file; give the name of a folder"):
        write_page(tmp_path / "page", network, observations(network, 1), [], "")
