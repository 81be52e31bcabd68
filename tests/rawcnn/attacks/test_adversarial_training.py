"""Adversarial training: what the step trains on, and that it hardens a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.attacks import Adversary, pgd
from rawcnn.nn.network import Network
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training
from tests.rawcnn import small
from tests.rawcnn.attacked import Linear, middling
from tests.rawcnn.attacked import small as reads_digits

SEED = tf.constant([0, 7])


def test_it_is_pgd_from_a_random_start():
    """On a linear model of two classes the sign never changes: enough steps end at ε·sign, wherever they began."""
    images, labels = middling(4)
    network = Linear(Linear().weights[:, :2])
    labels = tf.constant(labels % 2, tf.int32)
    attacked = Adversary(0.1, 0.05, 8)(network, tf.constant(images), labels, SEED)
    expected = pgd(network, images, labels.numpy(), epsilon=0.1, step=0.1, steps=1, random_start=False, target=None)
    right = expected.predictions_before == labels.numpy()
    np.testing.assert_allclose(attacked.numpy()[right], expected.images[right], atol=1e-6)
    one = Adversary(0.1, 0.0, 1)(network, tf.constant(images), labels, SEED).numpy()
    assert 0.05 < np.abs(one - images).max() <= 0.1 + 1e-6 and len(np.unique(one)) > 200
    again, other = (Adversary(0.1, 0.0, 1)(network, tf.constant(images), labels, s).numpy() for s in (SEED, SEED + 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)


@pytest.mark.sample("graph")
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_the_step_trains_on_attacked_images(digits, mode):
    data = small.part(digits, 256, 64)
    recipe = replace(RECIPES["digits"], epochs=1)
    seen = []

    def spy(model, images, labels, seed):
        seen.append((images.shape, model(images).shape))
        return images * 0  # nothing can be learned from black

    training = Training(small.network(), recipe, adversary=spy, compile=mode)
    training.fit(data)
    assert seen == [((64, 8, 8, 3), (64, 10))]
    assert training.history[0]["train_loss"] > 2.2


@pytest.mark.slow
def test_a_hardened_network_withstands_more(digits):
    data = small.part(digits, 1400, 200)
    images, labels = data.arrays("test")
    recipe = replace(RECIPES["digits"], epochs=8)
    withstood = []
    for adversary in (None, Adversary(0.1, 0.04, 4)):
        network = Network("small", reads_digits, size=8, classes=10)
        Training(network, recipe, adversary=adversary).fit(data)
        attacked = pgd(network, images, labels, epsilon=0.1, step=0.025)
        withstood.append(np.mean(attacked.predictions == labels))
    assert withstood[1] > withstood[0] + 0.15


def test_bad_settings():
    for settings, message in (((8.0,), "epsilon is 8"), ((0.1, 0.1, 0), "steps is 0"), ((0.1, -1.0), "step is -1")):
        with pytest.raises(ValueError, match=message):
            Adversary(*settings)
