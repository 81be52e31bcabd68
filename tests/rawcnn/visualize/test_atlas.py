"""The activation atlas: its sample, cells, whitening, labels and icons against loops."""

from __future__ import annotations

import io
from collections import defaultdict

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.nn.layers import conv, dense, global_average_pool, max_pool, relu
from rawcnn.nn.network import Network
from rawcnn.visualize import atlas as atlases
from rawcnn.visualize import atlas_cells, objectives
from rawcnn.visualize.atlas import activation_atlas
from rawcnn.visualize.atlas_sample import AtlasSample, draw_positions, sample_activations
from tests.rawcnn import small
from tests.references import close

QUICK = {"grids": (4, 5), "minimum": 5, "layout": "tsne", "steps": 24, "batch": 128, "icon_batch": 8}


@pytest.fixture(scope="module")
def few(digits):
    """300 digits, in an order in which neighbors differ."""
    return small.part(digits, 300, 20)


@pytest.fixture(scope="module")
def made(trained, few):
    """An atlas of a trained network, over all 300 images."""
    return activation_atlas(trained[0], few, "conv2", **QUICK)


# The sample ----------------------------------------------------------------------------------------------------


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "layer, side", [("conv1", 8), ("conv2/relu", 4), ("pool1", 4), ("pool2", 1), ("classifier", 1)]
)
def test_activations_are_those_of_a_forward_pass(few, layer, side):
    network = small.network()
    found = sample_activations(network, few, layer, batch=128)
    maps = network.forward(few.arrays("train")[0]).activations[layer].numpy()
    assert np.array_equal(found.indices, np.arange(300))
    if side == 1:
        assert not found.positions.any()
        close(found.activations, maps.reshape(300, -1))
        return
    assert set(map(tuple, found.positions)) == {(i, j) for i in range(1, side - 1) for j in range(1, side - 1)}
    close(found.activations, np.stack([maps[n, i, j] for n, (i, j) in enumerate(found.positions)]))


def test_a_narrow_map_has_no_edge():
    positions = draw_positions((2, 5), 500, seed=0)
    assert set(positions[:, 0]) == {0, 1} and set(positions[:, 1]) == {1, 2, 3}
    assert not draw_positions((1, 1), 5, seed=0).any()


@pytest.mark.sample("eager")
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_neither_batch_nor_compiler_changes_the_sample(few, mode):
    network = small.network()
    expected, found = (
        sample_activations(network, few, "conv2", split="test", **o) for o in ({}, {"batch": 7, "compile": mode})
    )
    assert np.array_equal(found.positions, expected.positions) and np.array_equal(found.classes, expected.classes)
    close(found.activations, expected.activations)
    close(found.effects, expected.effects, "gradient")


@pytest.mark.deeper
def test_the_seed_draws_positions_and_images(few):
    network = small.network()
    first, again, other = (sample_activations(network, few, "conv1", images=40, seed=seed) for seed in (1, 1, 2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert not np.array_equal(first.indices, other.indices) and not np.array_equal(first.positions, other.positions)
    assert len(set(first.indices)) == 40 and np.array_equal(first.indices, np.sort(first.indices))
    assert first.indices.max() > 200  # of the whole split, not its beginning
    maps = network.forward(few.arrays("train")[0]).activations["conv1"].numpy()
    close(
        first.activations, np.stack([maps[n, i, j] for n, (i, j) in zip(first.indices, first.positions, strict=True)])
    )
    assert len(sample_activations(network, few, "conv1", images=1000)) == 300


def test_larger_images_are_cropped():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 12, 14, 3)).astype(np.uint8)
    data, network = small.data(pixels, np.zeros(5, np.int32), 10), small.network()
    found = sample_activations(network, data, "conv1")
    maps = network.forward(data.arrays("train")[0][:, 2:10, 3:11]).activations["conv1"].numpy()
    close(found.activations, np.stack([maps[n, i, j] for n, (i, j) in enumerate(found.positions)]))


def test_where_all_is_linear_the_effects_are_the_logit(few):
    """Of a layer of one position, with only the classifier behind it: effect = logit − bias."""
    network = small.network()
    network.variables["classifier/bias"].assign(np.arange(10, dtype=np.float32))
    found = sample_activations(network, few, "pool2", split="test")
    logits = network(few.arrays("test")[0]).numpy()
    order = np.argsort(-logits, axis=1, kind="stable")[:, :3]
    assert np.array_equal(found.classes, order)
    close(found.effects, np.take_along_axis(logits, order, 1) - order.astype(np.float32), "gradient")


def test_effects_are_of_the_position(few):
    """a·∂logit/∂a, an image and a class at a time."""
    network = small.network()
    images, found = few.arrays("test")[0][:4], sample_activations(network, few, "conv2", split="test")
    for n, (row, column) in enumerate(found.positions[:4]):
        with tf.GradientTape(persistent=True) as tape:
            logits, activations, _ = network.forward(tf.constant(images[n : n + 1]))
            wanted = [logits[0, k] for k in found.classes[n]]
        maps = activations["conv2"]
        expected = [np.sum((maps * tape.gradient(one, maps))[0, row, column]) for one in wanted]
        close(found.effects[n], np.array(expected), "gradient")


def test_fewer_classes_than_are_explained(few):
    found = sample_activations(small.network(classes=2), few, "conv2", split="test")
    assert found.classes.shape == found.effects.shape == (20, 2)


# Cells ---------------------------------------------------------------------------------------------------------


def brute_cells(points, grid, minimum):
    """{(column, row): [points]} of the cells that hold enough."""
    held = defaultdict(list)
    for number, (x, y) in enumerate(points):
        held[min(int(x * grid), grid - 1), min(int(y * grid), grid - 1)].append(number)
    return {cell: numbers for cell, numbers in held.items() if len(numbers) >= minimum}


def test_cells_are_those_of_a_loop():
    points = np.random.default_rng(0).beta(0.5, 0.5, (400, 2)).astype(np.float32)
    points[:3] = [[1, 1], [0, 1], [0.5, 0.5]]
    for grid, minimum in ((4, 1), (7, 8), (10, 5)):
        found = atlas_cells.grid_cells(points, grid, minimum)
        cells, inside = found.cells, found.cell_of
        expected = brute_cells(points, grid, minimum)
        assert set(map(tuple, cells.tolist())) == set(expected)
        assert [tuple(cell) for cell in cells[:, ::-1].tolist()] == sorted((y, x) for x, y in expected)  # row by row
        for number, cell in enumerate(map(tuple, cells.tolist())):
            assert np.flatnonzero(inside == number).tolist() == expected[cell]
        assert (inside >= 0).sum() == sum(map(len, expected.values()))
    assert (atlas_cells.grid_cells(points, 10, 5).cell_of == -1).any()


def test_whitening_is_the_inverse_of_the_second_moment(monkeypatch):
    monkeypatch.setattr(atlas_cells, "CHUNK", 7)
    activations = np.random.default_rng(0).lognormal(0, 1, (50, 6)).astype(np.float32)
    wide = activations.astype(np.float64)
    moment = sum(np.outer(a, a) for a in wide) / 50
    ridge = 0.1 * sum(moment[i, i] for i in range(6)) / 6
    found = atlas_cells.whitening(activations, 0.1)
    close(found @ (moment + ridge * np.eye(6)), np.eye(6))
    means = wide[:3]
    turned = np.array([[sum(found[i, j] * v[j] for j in range(6)) for i in range(6)] for v in means])
    close(
        atlas_cells.whitened_directions(means, found),
        (turned / np.sqrt((turned**2).sum(1, keepdims=True))).astype(np.float32),
    )


def test_a_channel_that_never_fires_can_be_whitened():
    activations = np.array([[1, 0], [2, 0]], np.float32)
    close(atlas_cells.whitening(activations, 0.5), np.diag([1 / (2.5 + 0.625), 1 / 0.625]))


def test_labels_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    classes = np.array([generator.permutation(9)[:3] for _ in range(60)], np.int32)
    effects = generator.normal(-0.5, 1, (60, 3)).astype(np.float32)  # in some cells every class is lowered
    inside = generator.integers(-1, 8, 60)
    found = AtlasSample(np.zeros((60, 1)), np.arange(60), np.zeros((60, 2)), classes, effects)
    for cell, (label, attribution, share) in enumerate(zip(*atlas_cells.cell_classes(found, inside), strict=True)):
        sums, numbers = defaultdict(float), np.flatnonzero(inside == cell)
        for number in numbers:
            for k, effect in zip(classes[number], effects[number], strict=True):
                sums[int(k)] += float(effect)
        best = max(sums, key=lambda k: sums[k])
        assert label == best
        assert attribution == pytest.approx(sums[best] / len(numbers), rel=1e-5)
        speaking = [n for n in numbers if classes[n][effects[n].argmax()] == best]
        assert share == pytest.approx(len(speaking) / len(numbers))


# The atlas -----------------------------------------------------------------------------------------------------


def test_an_atlas_by_brute_force(trained, few, made):
    found = sample_activations(trained[0], few, "conv2")
    assert np.array_equal(made.indices, found.indices) and np.array_equal(made.positions, found.positions)
    assert made.settings["images"] == 300 and made.settings["layout"] == "tsne"
    assert made.settings["grids"] == [level.grid for level in made.levels] and made.levels[0].grid == 4
    for level in made.levels:
        expected = brute_cells(made.points, level.grid, 5)
        assert set(map(tuple, level.cells.tolist())) == set(expected)
        assert level.counts.tolist() == [len(expected[tuple(cell)]) for cell in level.cells.tolist()]
        means = [found.activations[expected[tuple(c)]].astype(np.float64).mean(0) for c in level.cells.tolist()]
        close(level.vectors, np.array(means).astype(np.float32))
        assert level.icons.shape == (len(expected), 8, 8, 3) and len(level.values) == len(expected)
        assert level.icons.min() >= 0 and level.icons.max() <= 1
        assert ((level.classes >= 0) & (level.classes < 10)).all() and ((level.shares >= 0) & (level.shares <= 1)).all()


def test_an_icon_is_made_for_its_own_cell(trained, few, made):
    """Of all icons of the grid, a cell's own excites its direction most, nearly everywhere."""
    level, network = made.levels[0], trained[0]
    found = sample_activations(network, few, "conv2")
    turned = level.vectors @ np.linalg.inv(
        (m := found.activations.T.astype(float) @ found.activations / 300)
        + made.settings["ridge"] * np.trace(m) / len(m) * np.eye(len(m))
    )
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    activations = network.activations(tf.constant(level.icons), ["conv2"])
    excited = []
    for vector in turned:
        objective = objectives.direction(network, "conv2", vector, cosine_power=2.0, position="middle")
        excited.append(objective.value(activations, *map(tf.constant, objective.rows)).numpy())
    close(np.diag(excited).astype(np.float32), level.values, "network")
    assert (np.argmax(excited, axis=1) == np.arange(len(turned))).mean() > 0.8


def test_the_same_seed_gives_the_same_bytes(trained, few, made):
    told = []
    again = activation_atlas(trained[0], few, "conv2", progress=lambda *step: told.append(step), **QUICK)
    assert again.settings == made.settings
    for name, array in made.arrays().items():
        assert array.tobytes() == again.arrays()[name].tobytes(), name
    assert list(dict.fromkeys(stage for _, _, stage in told)) == ["activations", "layout", "steps of the icons"]
    for stage in ("activations", "layout", "steps of the icons"):
        done = [step for step in told if step[2] == stage]
        assert done[-1][0] == done[-1][1] and done == sorted(done)


def test_points_spare_the_layout(trained, few, made, monkeypatch):
    monkeypatch.setattr(atlases, "project", lambda *_: pytest.fail("laid out again"))
    file = io.BytesIO()
    np.savez(file, **made.arrays())
    points = np.load(io.BytesIO(file.getvalue()))["points"]
    again = activation_atlas(trained[0], few, "conv2", points=points, **QUICK)
    assert again.settings["layout"] == "given"
    assert all(a.icons.tobytes() == b.icons.tobytes() for a, b in zip(again.levels, made.levels, strict=True))
    with pytest.raises(ValueError, match=r"points have shape \(299, 2\); expected \[300,2\]"):
        activation_atlas(trained[0], few, "conv2", points=points[1:], **QUICK)


def test_a_grid_that_shows_no_more_is_left_out():
    points = np.repeat([[0.1, 0.1], [0.9, 0.1], [0.9, 0.8]], 20, axis=0).astype(np.float32)
    points[:10] = [0.3, 0.1]
    shown = atlas_cells.choose_grids(points, (2, 3, 5, 8), 10)
    assert [(grid.side, len(grid.cells)) for grid in shown] == [(2, 3), (5, 4)]


def test_a_grid_that_shows_few_images_is_left_out():
    """Two crowds of 11 and 18 images that lie apart in a grid of 9 cells a side."""
    crowd = np.linspace(0, 0.45, 18)
    points = np.concatenate([np.tile([[0.9, 0.9], [0.9, 0.1]], (6, 1))[:11], np.stack([crowd, crowd], axis=1)])
    assert [grid.side for grid in atlas_cells.choose_grids(points, (2, 9), 5)] == [2]  # 11 of 29 are in cells of five
    assert [grid.side for grid in atlas_cells.choose_grids(points, (2, 9), 2)] == [2, 9]


def test_images_that_excite_nothing_are_left_out():
    """A rectified convolution without bias is silent on black images."""

    def model(net, images):
        return dense(net, "logits", global_average_pool(net, "pool", relu(net, conv(net, "conv1", images, 4, 3))), 3)

    network = Network("rectified", model, size=8, classes=3)
    network.variables["conv1/bias"].assign(np.zeros(4, np.float32))
    pixels = np.random.default_rng(0).integers(1, 255, (60, 8, 8, 3)).astype(np.uint8)
    pixels[::3] = 0
    data = small.data(pixels, np.zeros(60, np.int32), 3)
    options = {"grids": (2,), "minimum": 4, "layout": "tsne", "steps": 1}
    made = activation_atlas(network, data, "conv1/relu", **options)
    assert made.settings["images"] == 40 and made.settings["silent"] == 20
    assert np.array_equal(made.indices, [i for i in range(60) if i % 3])
    pixels[:] = 0
    with pytest.raises(ValueError, match="an atlas of 0 images that excite conv1/relu has too few: a 2×2 grid needs 8"):
        activation_atlas(network, small.data(pixels, np.zeros(60, np.int32), 3), "conv1/relu", **options)


@pytest.mark.parametrize(
    "images, grids, advice",
    [
        (None, (20, 40), r"of 300 images has too few: a 20×20 grid needs 800 .* or take a coarser grid \(--grid 12\)"),
        (100, (10, 20), r"of 100 images has too few: a 10×10 grid needs 200 .* or take a coarser grid \(--grid 6\)"),
        (
            5,
            (10,),
            r"of 5 images has too few: a 10×10 grid needs 200 or more, 8 in each of a quarter of its cells; add",
        ),
    ],
)
def test_too_few_images_are_told_how_many_it_takes(few, images, grids, advice):
    told = []
    with pytest.raises(ValueError, match=advice) as refused:
        activation_atlas(
            small.network(), few, "conv1", images=images, grids=grids, progress=lambda *step: told.append(step)
        )
    assert not told and ("coarser" in str(refused.value)) == (images != 5)


def test_images_spread_too_thin_are_told_how_many_it_takes():
    """One image in each of 300 places: no cell of a 17×17 grid holds four, most of an 8×8 grid's do."""
    pixels = np.random.default_rng(0).integers(0, 255, (300, 8, 8, 3)).astype(np.uint8)
    data = small.data(pixels, np.zeros(300, np.int32), 10)
    x, y = np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 15))
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    with pytest.raises(ValueError, match=r"of 300 images fewer than half .* 17×17 grid with 4 or more") as told:
        activation_atlas(small.network(), data, "conv1", points=points, grids=(17,), minimum=4)
    words = str(told.value)
    coarser, needed = int(words.split("--grid ")[1].rstrip(")")), int(words.split("about ")[1].split(":")[0])
    held = {g: sum(map(len, brute_cells(points, g, 4).values())) for g in range(2, 18)}
    assert held[coarser] >= 150 and all(held[g] < 150 for g in range(coarser + 1, 18))
    assert needed in (600, 1200)  # a cell holds one image or two


def test_how_many_images_half_of_them_need():
    points = np.repeat([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]], [10, 6, 3, 2], axis=0)
    assert atlas_cells.images_needed(points, 2, 8) == np.ceil(21 * 8 / 6)  # the cells of 10 and 6 hold half of 21
    assert atlas_cells.images_needed(points, 2, 6) == 21
    assert atlas_cells.images_needed(points[:20], 2, 8) == 16  # that of 10 holds half of 20
    for times in (1, 2, 3):
        more = np.repeat(points, times, axis=0)
        held = sum(map(len, brute_cells(more, 2, 8).values()))
        assert (held >= len(more) / 2) == (atlas_cells.images_needed(points, 2, 8) <= len(more))


def test_what_is_no_atlas(few):
    network = small.network()
    for wrong, message in (
        ({"layer": "conv9"}, "there is no layer 'conv9'; names near it"),
        ({"layout": "pca"}, "expected one of auto, umap, tsne"),
        ({"grids": (1,)}, "expected grids of 2 or more"),
        ({"grids": ()}, "expected grids of 2 or more"),
        ({"minimum": 0}, "minimum of 1 or more"),
        ({"ridge": 0.0}, "a ridge above 0"),
        ({"split": "valid"}, 'expected "train" or "test"'),
    ):
        with pytest.raises(ValueError, match=message):
            activation_atlas(network, few, **{"layer": "conv1", **wrong})
    with pytest.raises(ValueError, match="images is 0; expected 1 or more"):
        sample_activations(network, few, "conv1", images=0)


def test_icons_of_a_large_network_are_smaller_than_it():
    def model(net, images):
        x = max_pool(net, "pool1", conv(net, "conv1", images, 2, 3, stride=4), 2, 2, padding="VALID")
        return dense(net, "logits", relu(net, dense(net, "fc1", x, 4)), 3)

    network = Network("wide", model, size=96, classes=3)
    assert [atlases.icon_size(network, layer) for layer in ("conv1", "pool1", "fc1", "logits")] == [80, 80, 96, 96]
    assert atlases.icon_size(small.network(), "conv1") == 8
