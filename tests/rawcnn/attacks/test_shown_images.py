"""What an attack shows the network: every image is recorded, in the ball around an original and in [0,1]."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn import attacks
from rawcnn.attacks.ball import Ball
from rawcnn.attacks.gradient import random_start
from rawcnn.attacks.spatial_search import moved
from tests import references
from tests.rawcnn.attacked import SHAPE, Linear, middling


def curved(images):
    return Linear()(tf.sin(5 * images))


def ramp(images):
    """Logits of two classes, of images with any number of pixels."""
    flat = tf.reshape(images, (len(images), -1))
    return flat @ tf.linspace([0.0, 0.0], [0.0, 1.0], flat.shape[1])


class Recorder:
    """A model that is never fooled; it keeps every image that it sees."""

    def __init__(self, model=curved):
        self.model, self.shown = model, []

    def __call__(self, images):
        self.shown.append(images.numpy())
        logits = self.model(images)
        return logits + tf.one_hot(0, logits.shape[1], 50.0)

    @property
    def images(self) -> np.ndarray:
        return np.concatenate(self.shown)


def near_the_edges(batch: int = 4) -> np.ndarray:
    """Images in [0,1] of which many pixels are so close to 0 or 1 that an attack must clip."""
    return np.clip(references.random((batch, *SHAPE), seed=9).numpy() + 0.5, 0, 1).astype(np.float32)


def distances(shown: np.ndarray, originals: np.ndarray, norm: str) -> np.ndarray:
    """Of each shown image to the nearest original."""
    noise = np.abs(shown[:, None].astype(np.float64) - originals[None]).reshape(len(shown), len(originals), -1)
    return np.min(noise.max(axis=2) if norm == "linf" else np.linalg.norm(noise, axis=2), axis=1)


EPSILON = {"linf": 0.07, "l2": 0.4}
IN_THE_BALL = {
    "fgsm": (attacks.fgsm, "linf", {}),
    "bim": (attacks.bim, "linf", {}),
    "mi_fgsm": (attacks.mi_fgsm, "linf", {"steps": 4}),
    "pgd": (attacks.pgd, "linf", {"steps": 4}),
    "pgd with large steps": (attacks.pgd, "linf", {"steps": 3, "step": 0.5}),
    "pgd l2": (attacks.pgd, "l2", {"steps": 4, "norm": "l2"}),
    "pgd l2 with momentum": (attacks.pgd, "l2", {"steps": 3, "norm": "l2", "step": 0.5, "momentum": 1.0}),
    "pgd restarts": (attacks.pgd, "linf", {"steps": 2, "restarts": 3}),
}


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("name", IN_THE_BALL)
def test_every_image_shown_is_in_the_ball_and_has_valid_pixels(name, early_stop):
    attack, norm, settings = IN_THE_BALL[name]
    network, originals = Recorder(), near_the_edges()
    settings = settings if attack is attacks.fgsm else {**settings, "early_stop": early_stop}
    result = attack(network, originals, [0] * 4, epsilon=EPSILON[norm], compile="eager", **settings)
    assert not result.success.any()
    shown = network.images
    assert shown.min() >= 0 and shown.max() <= 1
    far = distances(shown, originals, norm)
    assert far.max() <= EPSILON[norm] * (1 + 1e-5) + 1e-6
    assert far.max() > 0.5 * EPSILON[norm]  # the ball is used: the check would see a larger one
    if not early_stop:  # the originals, each forward pass that was counted, and the verdict
        assert len(shown) == 4 + result.queries.sum() + 4


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_random_start_is_within_epsilon_and_uses_all_of_it(norm):
    originals, epsilon = np.full((64, *SHAPE), 0.5, np.float32), np.linspace(0, 0.3, 64).astype(np.float32)
    start = random_start(tf.constant(originals), epsilon, tf.range(64), tf.constant(0), tf.constant(0), Ball(norm))
    noise = np.abs(start.numpy().astype(np.float64) - originals).reshape(64, -1)
    far = noise.max(axis=1) if norm == "linf" else np.linalg.norm(noise, axis=1)
    assert np.all(far <= epsilon * (1 + 1e-5) + 1e-7) and np.all(far >= 0.8 * epsilon)
    clipped = random_start(tf.constant(near_the_edges()), np.full(4, 0.3, np.float32), tf.range(4), tf.constant(0),
                           tf.constant(0), Ball(norm)).numpy()  # fmt: skip
    assert clipped.min() >= 0 and clipped.max() <= 1


def test_the_first_image_that_pgd_shows_is_its_random_start():
    """Before any projection, which would hide a start outside the ball."""
    network, originals = Recorder(), middling(4)[0]
    attacks.pgd(network, originals, [0] * 4, epsilon=0.1, steps=1, compile="eager")
    start = network.shown[1][:4]  # the first are the originals, for their predictions
    far = distances(start, originals, "linf")
    assert far.max() <= 0.1 + 1e-6 and far.min() > 0.08


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_shows_valid_pixels(norm):
    network, originals = Recorder(), near_the_edges()
    result = attacks.deepfool(network, originals, [0] * 4, norm=norm, steps=3, compile="eager")
    assert network.images.min() >= 0 and network.images.max() <= 1 and (result.iterations == 3).all()


def test_the_grid_shows_each_of_its_transformations_once():
    network, originals = Recorder(), near_the_edges(2)
    settings = {"rotation": 20.0, "translation": 1.0, "angles": 3, "shifts": 2}
    attacks.spatial(network, originals, [0, 0], compile="eager", **settings)
    places = [[a, x, y] for a in (-np.pi / 9, 0, np.pi / 9) for x in (-1, 1) for y in (-1, 1)]
    expected = [moved(tf.constant(originals), tf.constant([place] * 2, tf.float32)).numpy() for place in places]
    shown = network.images[2:-2]  # without the originals and the verdict
    for images in expected:
        assert distances(images, shown, "linf").max() < 1e-5
    assert distances(shown, np.concatenate(expected), "linf").max() < 1e-5
    assert shown.min() >= 0 and shown.max() <= 1


@pytest.mark.parametrize("method", ["worst", "first-order"])
def test_other_searches_stay_in_the_range(method):
    """On images of one bright pixel, the place of the brightest shown one is where a translation put it."""
    originals = np.zeros((2, 9, 9, 3), np.float32)
    originals[:, 4, 4] = 1.0
    network = Recorder(ramp)
    settings = {"rotation": 0.0, "translation": 2.0, "steps": 4, "step": 1.0, "trials": 12}
    result = attacks.spatial(network, originals, [0, 0], method=method, compile="eager", **settings)
    shown = network.images
    rows, columns = np.nonzero(shown.sum(axis=3).max(axis=0) > 1e-6)
    assert rows.min() >= 2 and rows.max() <= 6 and columns.min() >= 2 and columns.max() <= 6
    assert shown.min() >= 0 and shown.max() <= 1 + 1e-6
    assert np.abs(result.transformations[:, 1:]).max() <= 2 and not result.transformations[:, 0].any()


def test_a_patch_changes_only_the_disc():
    network, originals = Recorder(), near_the_edges()
    made = attacks.make_patch(network, originals, target=1, steps=2, batch=3, compile="eager")
    result = attacks.patch(network, originals, [0] * 4, patch=made, epsilon=0.3, compile="eager")
    shown = network.images
    assert shown.min() >= 0 and shown.max() <= 1 + 1e-6
    changed = np.any(result.noise != 0, axis=3).mean(axis=(1, 2))
    assert np.all(changed > 0.1) and np.all(changed < 1)


def test_smallest_shows_the_largest_ball_at_most():
    network, originals = Recorder(), near_the_edges()
    settings = {"attack": attacks.pgd, "largest": 0.2, "tolerance": 0.05, "steps": 2}
    attacks.smallest(network, originals, [0] * 4, compile="eager", **settings)
    shown = network.images
    assert distances(shown, originals, "linf").max() <= 0.2 + 1e-6 and shown.min() >= 0 and shown.max() <= 1


def test_adversarial_training_sees_the_ball_only():
    network, originals = Recorder(), near_the_edges()
    labels, seed = tf.constant([0] * 4), tf.constant([0, 1])
    attacked = attacks.Adversary(0.07, 0.05, 3)(network, tf.constant(originals), labels, seed)
    shown = np.concatenate([network.images, attacked])
    assert distances(shown, originals, "linf").max() <= 0.07 + 1e-6 and shown.min() >= 0 and shown.max() <= 1
