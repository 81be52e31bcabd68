"""The papers' tables: every difference is explained, and what agrees needs no words."""

from __future__ import annotations

import pytest

from rawcnn.papers import PAPERS, Line, compare, separable_stem


@pytest.mark.parametrize("name", PAPERS)
def test_every_difference_is_explained_and_nothing_else(name):
    for line in compare(name).lines:
        assert bool(line.explanation) != line.agrees, line


@pytest.mark.parametrize("name", PAPERS)
def test_comparison_as_cells_and_as_json(name):
    comparison = compare(name)
    assert all(len(row) == len(comparison.columns) for row in comparison.rows)
    assert len(comparison.to_dict()["lines"]) == len(comparison.lines)
    assert comparison.notes


@pytest.mark.parametrize(
    "row, words",
    [
        ("inception_3a", "cut off, not rounded"),
        ("inception_4a", "0.7% lower"),
        ("inception_4c", "6.9% lower, which nothing in the table explains"),
        ("inception_5a", "5.3% higher, which nothing in the table explains"),
        ("conv1", "separable stem"),
    ],
)
def test_a_difference_is_named_for_what_it_is(row, words):
    (line,) = [x for x in compare("googlenet").lines if x.row == row and x.quantity == "weights"]
    assert words in line.explanation


def test_the_guess_at_row_5a():
    """GoogLeNet's 5a with a 5×5 reduce of 48 in place of 32."""
    weights = 1_042_432 + 16 * 832 + 25 * 16 * 128
    (line,) = [x for x in compare("googlenet").lines if x.row == "inception_5a" and x.quantity == "MACs"]
    assert f"{weights / 1024:,.0f}K and {49 * weights / 1e6:.1f}M" in line.explanation


def test_line_rounds_as_its_paper():
    assert Line("a", "parameters", "138M", 138_357_544).agrees
    assert not Line("a", "parameters", "139M", 138_357_544).agrees
    assert Line("a", "MACs", "1.8G", 1_814_073_344).agrees
    assert Line("a", "weights", "112K", 114_688, units={"K": 1024}).agrees
    assert not Line("a", "weights", "112K", 114_688).agrees
    assert Line("a", "neurons", "253,440", 253_440).agrees


def test_googlenet_stem_and_modules():
    weights, macs = separable_stem()
    assert (weights, round(macs / 1e6, 2)) == (2712, 34.02)
    counted = {(line.row, line.quantity): line.counted for line in compare("googlenet").lines}
    assert counted["inception_3a", "weights"] == 163_328
    assert counted["inception_3a", "MACs"] == 128_049_152
    assert counted["conv1", "weights"] == 9_408
    assert counted["whole network", "MACs"] == 1_582_671_872


def test_alexnet_neurons_sum():
    lines = {line.row: line for line in compare("alexnet").lines if line.quantity == "neurons"}
    assert lines["whole network"].counted == 659_272
    assert lines["conv1"].counted == 290_400 and not lines["conv1"].agrees


def test_unknown_paper_lists_the_known():
    with pytest.raises(ValueError, match="alexnet, vgg, googlenet, resnet"):
        compare("lenet")
