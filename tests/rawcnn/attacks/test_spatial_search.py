"""Rotations and translations: the identity bit for bit, slices, quarter turns, and the worst of many."""

from __future__ import annotations

from itertools import pairwise
from math import pi

import numpy as np
import pytest
import tensorflow as tf

import kernels
from rawcnn.attacks import spatial
from rawcnn.attacks.spatial_search import METHODS, grid_of, moved
from tests.rawcnn.attacked import Linear, middling

IMAGES = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)


def by(angle=0.0, right=0.0, down=0.0):
    return moved(tf.constant(IMAGES), tf.constant([[angle, right, down]] * 4, tf.float32)).numpy()


def test_zero_is_the_identity_bit_for_bit(trained):
    np.testing.assert_array_equal(by(), IMAGES)
    network, images, labels = trained
    for method in METHODS:
        result = spatial(network, images[:8], labels[:8], method=method, epsilon=0.0, angles=3, shifts=2, steps=2)
        np.testing.assert_array_equal(result.images, images[:8])
        assert not result.transformations.any()


def test_whole_shifts_are_slices_and_quarter_turns_are_rot90():
    shifted = np.zeros_like(IMAGES)
    shifted[:, 2:, :-1] = IMAGES[:, :-2, 1:]
    np.testing.assert_array_equal(by(0, -1, 2), shifted)
    np.testing.assert_allclose(by(pi / 2), np.rot90(IMAGES, 1, (1, 2)), atol=2e-6)
    np.testing.assert_allclose(by(-pi / 2), np.rot90(IMAGES, -1, (1, 2)), atol=2e-6)


def test_each_image_has_its_own():
    places = tf.constant([[0, 0, 0], [0, 1, 0], [pi / 2, 0, 0], [0.3, 1.5, -2]], tf.float32)
    together = moved(tf.constant(IMAGES), places)
    for i in range(4):
        alone = moved(tf.constant(IMAGES[i : i + 1]), places[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])


def test_the_grid_is_five_by_five_by_thirty_one():
    grid = grid_of(31, 5)
    assert grid.shape == (775, 3) and len({tuple(row) for row in grid.tolist()}) == 775
    np.testing.assert_array_equal([grid.min(0), grid.max(0)], [[-1] * 3, [1] * 3])
    assert [0, 0, 0] in grid.tolist()
    np.testing.assert_array_equal(grid_of(1, 1), [[0, 0, 0]])


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_the_grid_finds_the_worst_by_brute_force(trained, mode):
    network, images, labels = trained
    images, labels = images[:5], labels[:5]
    result = spatial(network, images, labels, angles=3, shifts=3, translation=1.0, rotation=20.0, compile=mode)
    worst = [None] * 5
    for place in grid_of(3, 3) * np.array([20 * pi / 180, 1, 1], np.float32):
        seen = moved(tf.constant(images), tf.constant(np.tile(place, (5, 1))))
        logits = network(seen)
        loss = kernels.cross_entropy(logits, tf.constant(labels)).numpy()
        for i, wrong in enumerate(np.argmax(logits, 1) != labels):
            if worst[i] is None or (wrong, loss[i]) > worst[i][0]:
                worst[i] = (wrong, loss[i]), seen[i].numpy()
    for i in range(5):
        np.testing.assert_allclose(result.images[i], worst[i][1], atol=1e-5)
        assert result.success[i] == worst[i][0][0]
    assert np.all(result.queries == 27)


def test_a_grid_in_bfloat16_fools_no_fewer(trained):
    network, images, labels = trained
    settings = {"angles": 5, "shifts": 3, "translation": 0.2, "rotation": 8.0}
    wide, narrow = (spatial(network, images, labels, precision=p, **settings) for p in ("float32", "bfloat16"))
    assert np.all(narrow.success[wide.success]) and 0 < narrow.success.sum() < 64
    np.testing.assert_array_equal(np.unique(narrow.queries), [45, 90])
    np.testing.assert_allclose(narrow.images[~narrow.success], wide.images[~narrow.success], atol=1e-6)
    np.testing.assert_array_equal(narrow.predictions, np.argmax(network(narrow.images), 1))


def test_worst_of_more_trials_only_adds(trained):
    network, images, labels = trained
    results = [spatial(network, images, labels, method="worst", trials=k) for k in (1, 3, 10)]
    for fewer, more in pairwise(results):
        assert np.all(more.success[fewer.success])
    accuracies = [1 - r.success.mean() for r in results]
    assert accuracies[0] > accuracies[2]
    again = spatial(network, images[16:32], labels[16:32], method="worst", trials=3, first=16)
    np.testing.assert_allclose(again.images, results[1].images[16:32], atol=1e-6)
    other = spatial(network, images, labels, method="worst", trials=1, seed=1)
    assert np.any(other.transformations != results[0].transformations)
    limits = np.abs(results[2].transformations).max(axis=0)
    assert np.all(limits <= [30.001, 3.001, 3.001]) and np.all(limits > [15, 1.5, 1.5])


def test_first_order_climbs(trained):
    network, images, labels = trained
    settings = {"method": "first-order", "rotation": 15.0, "translation": 1.0}
    start, end = (spatial(network, images, labels, steps=steps, **settings) for steps in (1, 20))
    loss = [kernels.cross_entropy(network(r.images), tf.constant(labels)).numpy() for r in (start, end)]
    assert np.all(end.success[start.success]) and np.mean(loss[1]) > np.mean(loss[0])


def test_targeted_wants_the_class(trained):
    network, images, labels = trained
    result = spatial(network, images, labels, method="worst", trials=20, target=3)
    np.testing.assert_array_equal(result.success, result.predictions == 3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "best"}, "grid, worst, first-order"),
        ({"rotation": 200.0}, "rotation is 200"),
        ({"translation": -1.0}, "translation is -1"),
        ({"epsilon": 1.5}, "epsilon is 1.5"),
        ({"trials": 0}, "trials is 0"),
        ({"precision": "float16"}, "expected one of float32, bfloat16"),
        ({"angles": 2.5}, "angles is 2.5"),
    ],
)
def test_bad_input(wrong, message):
    images, labels = middling(2)
    with pytest.raises(ValueError, match=message):
        spatial(Linear(), images, labels, **wrong)
