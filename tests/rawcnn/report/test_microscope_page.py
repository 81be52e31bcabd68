"""The page of a run under the microscope, drawn from made-up measurements."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import rawcnn
from rawcnn.plots.microscope import chosen_epochs, time_colors
from rawcnn.plots.themed import DARK, LIGHT
from rawcnn.report.microscope_page import _dead_table, _of_weighted, comparison, write_page
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
    assert [chosen_epochs(range(count), 8) for count in (1, 2, 8)] == [[0], [0, 1], list(range(8))]
    places = chosen_epochs(range(65), 8)
    assert places[0] == 0 and places[-1] == 64 and len(places) <= 8
    gaps = np.diff(places)
    assert (gaps[1:] >= gaps[:-1]).all()


def luminance(color: str) -> float:
    """The relative luminance of sRGB in 0 … 1 (WCAG 2.1)."""
    values = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_over_time_are_seen(look):
    """WCAG 2.1 asks for a contrast of 3:1 of graphical objects; lines side by side have different colors."""
    assert time_colors(look, 1) == [look.series[1]]
    colors = time_colors(look, 5)
    for color in colors:
        light, dark = sorted((luminance(color), luminance(look.paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3, color
    assert len(set(colors)) == 5


def test_the_comparison_names_both_networks():
    text = comparison({"cifar_plain20": {"a/filters": 6.0, "b/filters": 2.0}, "cifar_resnet20": {"a/filters": 1.0}})
    assert "`cifar_plain20`: 3 times; `cifar_resnet20`: 1 times" in text


def test_lines_are_of_layers_with_weights():
    """The norms of outputs are drawn for convolutions and dense layers, in order; ReLUs have none of these lines."""
    network = small.network()
    seen, names = observations(network, 3), ("conv1", "conv2", "classifier")
    shown = _of_weighted(seen, "activation_norm")
    columns = [seen.layers.outputs.index(name) for name in names]
    np.testing.assert_array_equal(shown, seen.table("activation_norm")[:, columns])


def test_the_table_of_dead_units_has_the_first_and_the_last_epoch():
    network = small.network()
    seen = observations(network, 4)
    table = _dead_table(seen)
    assert table.columns[1:4] == ("units, epoch 0", "epoch 3", "channels, epoch 0")
    for place, (name, *shares) in enumerate(table.rows):
        assert name == seen.layers.relus[place]
        values = [seen.table(what)[epoch, place] for what in ("dead_units", "dead_channels") for epoch in (0, -1)]
        assert shares == [f"{value:.1%}" for value in values]


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
