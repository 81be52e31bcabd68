"""Objectives on given activations: their closed forms, their algebra, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.visualize import objectives
from rawcnn.visualize.objectives import Objective
from tests import references
from tests.rawcnn import small

MAPS = np.random.default_rng(0).standard_normal((4, 5, 6, 8))  # [B,h,w,C] of conv1, whatever network it came from


@pytest.fixture(scope="module")
def network():
    return small.network()


def value(objective: Objective, maps=MAPS, layer="conv1") -> np.ndarray:
    rows = [tf.constant(array, tf.float32) for array in objective.rows]
    return objective.value({layer: tf.constant(maps, tf.float32)}, *rows).numpy()


def stub(name: str, values) -> Objective:
    """An objective with these values."""
    return Objective(name, ("conv1",), lambda activations, v: v, (np.array(values, np.float32),))


def test_closed_forms(network):
    middle, third = MAPS[:, 2, 3], MAPS[..., 3]
    references.close(value(objectives.neuron(network, "conv1", 3)), middle[:, 3], dtype="float32")
    references.close(value(objectives.neuron(network, "conv1", 3, (4, 0))), MAPS[:, 4, 0, 3], dtype="float32")
    references.close(value(objectives.channel(network, "conv1", 3)), third.mean((1, 2)), dtype="float32")
    references.close(value(objectives.layer(network, "conv1")), (MAPS**2).mean((1, 2, 3)), dtype="float32")
    logits = MAPS[:, 0, 0]
    network = small.network(classes=8)
    objective = objectives.logit(network, 2)
    references.close(value(objective, logits, "classifier"), logits[:, 2], dtype="float32")


def test_each_image_its_own_channel(network):
    chosen = [3, 0, 7, 3]
    objective = objectives.channel(network, "conv1", chosen)
    assert objective.images == 4 and objective.name == "conv1 channel 3, 0, 7, 3"
    expected = [MAPS[b, ..., c].mean() for b, c in enumerate(chosen)]
    references.close(value(objective), expected, dtype="float32")


@pytest.mark.parametrize("power", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("position", [None, "middle", (1, 2)])
def test_direction_in_loops(network, power, position):
    vectors = np.random.default_rng(1).standard_normal((4, 8))
    objective = objectives.direction(network, "conv1", vectors, cosine_power=power, position=position)
    places = {None: [*np.ndindex(5, 6)], "middle": [(2, 3)], (1, 2): [(1, 2)]}[position]
    expected = []
    for maps, vector in zip(MAPS, vectors, strict=True):
        total = 0.0
        for row, column in places:
            a = maps[row, column]
            cosine = a @ vector / (np.linalg.norm(a) * np.linalg.norm(vector))
            total += (a @ vector) * max(cosine, 0.1) ** power
        expected.append(total / len(places))
    references.close(value(objective), expected, kind="gradient", dtype="float32")


def test_fifth_twice_as_much_as_the_third(network):
    objective = objectives.weighted_units(network, "conv1", {5: 2, 3: 1}, cosine_power=0)
    references.close(value(objective), (2 * MAPS[..., 5] + MAPS[..., 3]).mean((1, 2)), dtype="float32")
    assert objective.name == "conv1 channels 2·5 + 1·3"
    whole = np.stack([MAPS[..., 5], MAPS[..., 3]], axis=-1)
    cosine = whole @ [2, 1] / (np.linalg.norm(whole, axis=-1) * np.sqrt(5))
    expected = (whole @ [2, 1] * np.maximum(cosine, 0.1) ** 4).mean((1, 2))
    references.close(value(objectives.weighted_units(network, "conv1", {5: 2, 3: 1})), expected, dtype="float32")


def test_interpolation(network):
    first, second = (objectives.channel(network, "conv1", c) for c in (1, 6))
    between = objectives.interpolation(first, second, 4)
    t = np.linspace(0, 1, 4)
    ends = (MAPS[..., c].mean((1, 2)) for c in (1, 6))
    references.close(value(between), (1 - t) * next(ends) + t * next(ends), dtype="float32")
    assert between.images == 4


def test_diversity_in_loops(network):
    objective = objectives.diversity(network, "conv1", group=2)
    grams = [np.einsum("hwc,hwd->cd", m, m) for m in MAPS]
    grams = [g / np.linalg.norm(g) for g in grams]
    expected = [-np.sum(grams[b] * grams[b ^ 1]) / 2 for b in range(4)]  # b ^ 1: the other of its pair
    references.close(value(objective), expected, kind="gradient", dtype="float32")
    whole = value(objectives.diversity(network, "conv1", group=4))
    pairs = sum(np.sum(grams[i] * grams[j]) for i in range(4) for j in range(4) if i != j)
    assert whole.sum() == pytest.approx(-pairs / 4, rel=1e-5)


def test_algebra():
    a, b = stub("a", [3.0, 1.0]), stub("b", [5.0, -2.0])
    assert value(a - b).tolist() == [-2, 3] and value(a + b).tolist() == [8, -1]
    assert value(-a).tolist() == [-3, -1]
    assert value(2 * a).tolist() == value(a * 2).tolist() == [6, 2]
    assert value(a - 0.5 * b).tolist() == [0.5, 2]
    assert (a - 0.5 * b).name == "a − 0.5·(b)" and (-a).name == "−(a)"
    assert value(a + stub("c", [1.0])).tolist() == [4, 2]


def test_what_objectives_refuse(network):
    with pytest.raises(ValueError, match="no layer 'conv9'; names near it are conv"):
        objectives.channel(network, "conv9", 0)
    with pytest.raises(ValueError, match=r"\[8\]; conv1 has channels 0 to 7"):
        objectives.neuron(network, "conv1", 8)
    with pytest.raises(ValueError, match=r"position is \(5, 0\); the map of conv1 is 5×6"):
        value(objectives.neuron(network, "conv1", 0, (5, 0)))
    with pytest.raises(ValueError, match="expected finite numbers, 8 for conv1"):
        objectives.direction(network, "conv1", [1.0, 2.0])
    with pytest.raises(ValueError, match="direction is zero"):
        objectives.direction(network, "conv1", np.zeros(8))
    with pytest.raises(ValueError, match="group is 1; expected a whole number, 2 or more"):
        objectives.diversity(network, "conv1", 1)
    with pytest.raises(ValueError, match="count is 1; expected a whole number, 2 or more"):
        objectives.interpolation(stub("a", [1.0]), stub("b", [1.0]), 1)
    with pytest.raises(ValueError, match="a is for 2 images and b for 3"):
        stub("a", [1.0, 2.0]) + stub("b", [1.0, 2.0, 3.0])
