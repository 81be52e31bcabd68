"""How images excite units: top, bottom, quantiles and histogram against NumPy, in memory that does not grow."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from rawcnn import data as data_module
from rawcnn import visualize as V
from rawcnn.data import DataSet
from rawcnn.plots import themed as plots
from rawcnn.report.activation_sheet import histogram_sheet, sheet_size
from rawcnn.visualize import streaming_top_k
from tests.rawcnn import searched, small
from tests.rawcnn.searched import activations, best_places, brute_force, same

QUANTILES = (0.0, 0.1, 0.5, 0.85, 1.0)


@pytest.fixture(scope="module")
def network():
    return searched.network()


@pytest.fixture(scope="module")
def few(digits):
    return small.part(digits, 70, 20)


def same_excitation(excitation, maps, count, quantiles, position=None):
    """Is this what NumPy finds in the maps [N,h,w] of a channel?"""
    same(excitation.top, brute_force(maps, count), position)
    same(excitation.bottom, brute_force(maps, count, sign=-1), position)
    assert excitation.largest == excitation.top[0].activation
    places = best_places(maps)
    values = np.array([value for value, _, _ in places], np.float64)
    assert [quantile for quantile, _ in excitation.quantiles] == list(quantiles)
    nearest = [places[int(np.argmin(np.abs(values - np.quantile(values, quantile))))] for quantile in quantiles]
    same([example for _, example in excitation.quantiles], nearest, position)
    counts, edges = np.histogram(values, bins=40)
    np.testing.assert_array_equal(excitation.counts, counts)
    np.testing.assert_allclose(excitation.edges, edges, rtol=1e-5, atol=1e-6)


# Excitations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "batch"), [("eager", 7), ("graph", 64), ("xla", 35), ("graph", 500)])
def test_excitations_are_those_of_a_brute_force_search(network, few, mode, batch):
    maps = activations(network, few.arrays("train")[0], "conv2")
    found = V.excitations(network, few, "conv2", [2, 0], 6, quantiles=QUANTILES, batch=batch, compile=mode)
    assert list(found) == [2, 0]
    for channel, excitation in found.items():
        same_excitation(excitation, maps[..., channel], 6, QUANTILES)
        assert (excitation.channel, excitation.images, excitation.sampled) == (channel, 70, 70)
        assert excitation.quantiles[-1][1].index == excitation.top[0].index
        for top in (*excitation.bottom, *(example for _, example in excitation.quantiles)):
            assert top.box == network.operation("conv2").receptive_field.box(top.position, (8, 8))


def test_the_top_is_that_of_top_inputs(network, few):
    tops, found = (search(network, few, "pool1", count=3) for search in (V.top_inputs, V.excitations))
    for channel, excitation in found.items():
        assert [(t.index, t.position, t.activation) for t in excitation.top] == [
            (t.index, t.position, t.activation) for t in tops[channel]
        ]


def test_a_unit_is_a_channel_at_one_position(network, few):
    maps = activations(network, few.arrays("train")[0], "conv2")
    for row, column in ((0, 0), (3, 1)):
        unit = V.excitations(network, few, "conv2", [1], 4, position=(row, column), quantiles=QUANTILES, batch=30)[1]
        there = maps[:, row : row + 1, column : column + 1, 1]  # [N,1,1]
        same_excitation(unit, there, 4, QUANTILES, (row, column))
        assert unit.top[0].box == network.operation("conv2").receptive_field.box((row, column), (8, 8))


def test_a_class_is_a_channel_of_the_head(trained, digits):
    network = trained[0]
    images, labels = digits.arrays("test")
    logits = network(images).numpy()[:, 3]
    found = V.excitations(network, digits, network.head, [3], 8, split="test")[3]
    assert [t.index for t in found.top] == np.argsort(-logits, kind="stable")[:8].tolist()
    assert [t.index for t in found.bottom] == np.argsort(logits, kind="stable")[:8].tolist()
    assert {labels[t.index] for t in found.top} == {3} and {t.position for t in found.top} == {(0, 0)}
    np.testing.assert_array_equal(found.top[0].crop, found.top[0].image)


# The sample ------------------------------------------------------------------------------------------------


def test_a_sample_stands_for_the_rest(network, few):
    maps = activations(network, few.arrays("train")[0], "conv2")[..., 1]
    numbers = streaming_top_k.sample_indices(70, 25, seed=3)
    excitation = V.excitations(network, few, "conv2", [1], 4, sample=25, seed=3, quantiles=QUANTILES, batch=16)[1]
    assert (excitation.images, excitation.sampled) == (70, 25)
    same(excitation.top, brute_force(maps, 4))  # of all images
    same(excitation.bottom, brute_force(maps, 4, sign=-1))
    part = V.excitations(network, few, "conv2", [1], sample=25, seed=3, quantiles=QUANTILES, batch=70)[1]
    places = [best_places(maps)[number] for number in numbers]
    values = np.array([value for value, _, _ in places], np.float64)
    nearest = [places[int(np.argmin(np.abs(values - np.quantile(values, q))))] for q in QUANTILES]
    for either in (excitation, part):  # whatever the batch
        same([example for _, example in either.quantiles], nearest)
        np.testing.assert_array_equal(either.counts, np.histogram(values, 40)[0])
    other = V.excitations(network, few, "conv2", [1], sample=25, seed=4)[1]
    assert not np.array_equal(other.counts, excitation.counts)


def test_samples_are_uniform_and_repeatable():
    numbers = streaming_top_k.sample_indices(1000, 50, seed=1)
    assert len({*numbers.tolist()}) == 50 and (np.diff(numbers) > 0).all() and numbers[0] >= 0 and numbers[-1] < 1000
    np.testing.assert_array_equal(numbers, streaming_top_k.sample_indices(1000, 50, seed=1))
    assert numbers.tolist() != streaming_top_k.sample_indices(1000, 50, seed=2).tolist()
    np.testing.assert_array_equal(streaming_top_k.sample_indices(50, 50, seed=1), np.arange(50))
    times = np.bincount(
        np.concatenate([streaming_top_k.sample_indices(12, 3, seed) for seed in range(1600)]), minlength=12
    )
    assert np.abs(times - 400).max() < 5 * np.sqrt(1600 * 0.25 * 0.75)  # five standard deviations


# Memory ----------------------------------------------------------------------------------------------------


def test_a_sample_of_millions_needs_no_list_of_them():
    tracemalloc.start()
    try:
        numbers = streaming_top_k.sample_indices(5_000_000, 10_000, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(np.unique(numbers)) == 10_000 and peak < 2e6


def test_memory_does_not_grow_with_the_data_set(network, digits, monkeypatch):
    """What is handed from batch to batch, and what is fetched at the end, whether there are 60 images or 600."""
    held, taken = [], []
    original_step, original_take = streaming_top_k._compiled_step, DataSet.take

    def step(*arguments):
        inner = original_step(*arguments)

        def watched(kept, *rest):
            kept, *others = inner(kept, *rest)
            held.append(sum(part.numpy().nbytes for state in kept for part in state))
            return kept, *others

        return watched

    def take(self, split, indices):
        taken.append(list(indices))
        return original_take(self, split, indices)

    monkeypatch.setattr(streaming_top_k, "_compiled_step", step)
    monkeypatch.setattr(DataSet, "take", take)
    for total in (60, 600):
        found = V.excitations(network, small.part(digits, total, 1), "conv1", [0, 4], 3, batch=30, sample=40)
        assert len(found[0].counts) == 40 and found[0].sampled == 40
    assert len(held) == 2 + 20 and {*held} == {2 * 2 * 3 * 3 * 4}  # ends × channels × count × three numbers of 4 bytes
    assert len(taken) == 2 and all(len(some) == len({*some}) <= 2 * (3 + 3 + 5) for some in taken)


def test_images_that_are_not_held_in_memory(network, monkeypatch):
    """They are decoded as they pass, and those that are shown once more."""
    held = data_module.load("digits", 6)
    monkeypatch.setattr(data_module, "MEMORY", 0)
    streamed = data_module.load("digits", 6)
    assert streamed.splits["test"].images is None
    ours, theirs = (V.excitations(network, d, "conv1", [1], 3, split="test")[1] for d in (streamed, held))
    np.testing.assert_array_equal(ours.counts, theirs.counts)
    for mine, other in zip((*ours.top, *ours.bottom), (*theirs.top, *theirs.bottom), strict=True):
        assert (mine.index, mine.position, mine.box) == (other.index, other.position, other.box)
        np.testing.assert_array_equal(mine.image, other.image)


# The plot ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [plots.LIGHT, plots.DARK])
def test_histogram_sheet(network, few, tmp_path, look):
    excitation = V.excitations(network, few, "conv2", [2], 5, quantiles=(0.1, 0.5), sample=30)[2]
    file = tmp_path / "sheet.png"
    draw = histogram_sheet(excitation, "costs $5$", columns=2)
    plots.save(draw, file, look, sheet_size(2))
    with Image.open(file) as image:
        assert image.size == tuple(round(200 * inches) for inches in sheet_size(2))
        assert image.convert("RGB").getpixel((0, 0)) == tuple(bytes.fromhex(look.paper[1:]))
    figure = Figure(sheet_size(2), layout="constrained")
    draw(figure, look)
    histogram, *pictures = figure.get_axes()
    assert r"costs \$5\$" in {histogram.get_title(loc=side) for side in ("left", "center")}
    assert histogram.get_xlabel() == "activation (30 of 70 images)"
    shown = [axes.images[0].get_array() for axes in pictures if axes.images]
    expected = [example.crop for _, example in excitation.quantiles]
    expected += [picture for top in excitation.top for picture in (top.crop, top.image)]
    assert len(pictures) == 2 + 2 * 6  # of the six places for the best, one stays empty
    for mine, other in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(mine, other)
