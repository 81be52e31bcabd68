"""The adversarial patch: where it lies, what it leaves alone, and that it learns its target."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import make_patch, patch
from rawcnn.attacks.adversarial_patch import Patch, Placement, apply_patch, disc, random_places
from tests import references
from tests.rawcnn.attacked import Linear, middling

IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (6, 40, 40, 3)).astype(np.float32)
ZERO = tf.constant(0)


def some(side=40, value=1.0):
    return tf.constant(np.full((side, side, 3), value, np.float32))


def at(diameter, angle, right, down, count=6):
    return tf.constant([[diameter, angle, right, down]] * count, tf.float32)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_the_disc_covers_its_area_and_leaves_the_rest_bit_for_bit(share):
    covered = apply_patch(some(), tf.constant(IMAGES), at(share * 40, 0.3, 20, 20)).numpy() - IMAGES
    touched = np.any(covered != 0, axis=-1)
    rows, columns = np.mgrid[:40, :40] + 0.5
    distance = np.hypot(rows - 20, columns - 20)
    assert not touched[:, distance > share * 20 + 1.5].any() and touched[:, distance < share * 20 - 1.5].all()
    white = apply_patch(some(), tf.zeros((1, 40, 40, 3)), at(share * 40, 0.0, 20, 20, 1)).numpy()
    assert white[..., 0].sum() == pytest.approx(pi / 4 * (share * 40) ** 2, rel=0.03)


def test_a_whole_patch_at_its_own_size_is_itself():
    pixels = tf.constant(IMAGES[0])
    seen = apply_patch(pixels, tf.constant(IMAGES[1:2]), at(40, 0.0, 20, 20, 1))[0].numpy()
    inside = disc(40)[..., 0] > 0
    np.testing.assert_allclose(seen[inside], IMAGES[0][inside], atol=1e-6)
    np.testing.assert_array_equal(seen[~inside], IMAGES[1][~inside])
    turned = apply_patch(pixels, tf.constant(IMAGES[1:2]), at(40, pi / 2, 20, 20, 1))[0].numpy()
    np.testing.assert_allclose(turned[inside], np.rot90(IMAGES[0], 1)[inside], atol=1e-5)


@pytest.mark.deeper
def test_it_always_lies_within_the_image():
    placement = Placement((0.1, 1.0), pi / 8)
    where = random_places(tf.range(500), placement, ZERO, ZERO, (500, 30, 40, 3)).numpy()
    diameter, angle, right, down = where.T
    assert 3 <= diameter.min() < 6 and 27 < diameter.max() <= 30
    assert -pi / 8 <= angle.min() < -0.3 and 0.3 < angle.max() <= pi / 8
    for place, length in ((right, 40), (down, 30)):
        assert np.all(place >= diameter / 2 - 1e-5) and np.all(place <= length - diameter / 2 + 1e-5)
    again = random_places(tf.range(7, 9), placement, ZERO, ZERO, (2, 30, 40, 3))
    np.testing.assert_array_equal(again, where[7:9])
    later = random_places(tf.range(500), placement, ZERO, tf.constant(1), (500, 30, 40, 3))
    assert np.all(later != where)


def test_the_gradient_to_the_patch_is_that_of_its_arithmetic():
    pixels, images, upstream = (
        references.random(s, i, low=0.0) for i, s in enumerate([(8, 8, 3), *[(2, 8, 8, 3)] * 2])
    )
    where = tf.constant([[5, 0.3, 3.5, 4.0], [7, -0.2, 4.0, 4.2]])
    (gradient,) = references.tape_gradient(lambda p: apply_patch(p, images, where), [pixels], upstream)
    basis = tf.eye(8 * 8 * 3)
    columns = [tf.reduce_sum((apply_patch(tf.reshape(row, (8, 8, 3)), 0 * images, where)) * upstream) for row in basis]
    references.close(tf.reshape(gradient, [-1]), tf.stack(columns), "gradient")  # it is linear in the patch


def learned(network, images, **settings) -> Patch:
    return make_patch(network, images, target=3, steps=60, scale=(0.5, 0.9), rate=0.1, **settings)


def test_it_learns_its_target(trained, digits):
    network, images, labels = trained
    training, _ = digits.arrays("train")
    told = []
    made = learned(network, training, progress=lambda *done: told.append(done))
    assert told[-1] == (60, 60) and made.history[-10:].mean() > made.history[:5].mean() + 1
    assert made.pixels.min() >= 0 and made.pixels.max() <= 1 and made.pixels.shape == (8, 8, 3)
    small, large = (patch(network, images, labels, patch=made, epsilon=area) for area in (0.05, 0.4))
    gray = Patch(np.full((8, 8, 3), 0.5, np.float32), 3, made.history, {})
    control = patch(network, images, labels, patch=gray, epsilon=0.4)
    rate = [r.summary()["success_rate"] for r in (small, large, control)]
    assert rate[1] > 0.4 and rate[1] > rate[0] and rate[1] > rate[2] + 0.3
    np.testing.assert_array_equal(large.predictions, np.argmax(network(large.images), 1))
    again = patch(network, images[8:16], labels[8:16], patch=made, epsilon=0.4, first=8)
    np.testing.assert_allclose(again.images, large.images[8:16], atol=1e-6)
    np.testing.assert_array_equal(learned(network, training).pixels, made.pixels)
    assert np.any(learned(network, training, seed=1).pixels != made.pixels)


def test_an_ensemble_is_one_patch_for_all(trained, digits):
    network, images, labels = trained
    other = Linear(references.random((192, 10), 5))
    made = learned([network, other], digits.arrays("train")[0])
    for model in (network, other):
        assert patch(model, images, labels, patch=made, epsilon=0.5).success.mean() > 0.4


def test_no_area_is_the_identity_and_the_print_is_a_disc(trained):
    network, images, labels = trained
    made = Patch(np.full((16, 16, 3), 0.7, np.float32), 3, np.zeros(1), {})
    np.testing.assert_array_equal(patch(network, images, labels, patch=made, epsilon=0.0).images, images)
    printed = made.printable
    assert printed.shape == (16, 16, 4) and printed.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(printed[..., 3]), [0, 255])
    assert np.mean(printed[..., 3] == 255) == pytest.approx(pi / 4, abs=0.05)


def test_bad_input(trained):
    network, images, labels = trained
    made = Patch(np.full((8, 8, 3), 0.5, np.float32), 3, np.zeros(1), {})
    with pytest.raises(ValueError, match="epsilon is 0"):
        patch(network, images, labels, patch=made, epsilon=0.9)
    with pytest.raises(ValueError, match="does not fit into 4×5 images"):
        patch(Linear(), *middling(2), patch=Patch(made.pixels, 2, made.history, {}), epsilon=0.75)
    for wrong, message in (
        ({"target": 10}, "the class 10 in target"),
        ({"scale": (0.5, 0.2)}, "the smaller first"),
        ({"steps": 0}, "steps is 0"),
        ({"rotation": 360.0}, "rotation is 360"),
        ({"networks": []}, "0 networks"),
    ):
        given = {"networks": network, "images": images, "target": 3, **wrong}
        with pytest.raises(ValueError, match=message):
            make_patch(given.pop("networks"), given.pop("images"), **given)
