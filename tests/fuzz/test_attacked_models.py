"""Every attack × models whose gradients or answers are not finite, are zero, or have another scale.

The images that an attack returns are finite, in [0,1] and in the ball. A NaN is never a success, and accuracy and
success are what NumPy finds in the network's answers.
"""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn import attacks
from rawcnn.attacks.adversarial_patch import Patch
from rawcnn.attacks.common import NO_CLASS
from rawcnn.attacks.result import columns_from, plain
from rawcnn.nn.network import Network
from tests import references
from tests.rawcnn.attacked import small

SHAPE = (6, 6, 3)
WEIGHTS = references.random((108, 4), seed=5)
NAN, INFINITE = float("nan"), float("inf")
SCALES = (1e-30, 1e-20, 1e-10, 1e10, 1e20, 1e30)


def linear(images):
    return tf.reshape(images - 0.5, (-1, 108)) @ WEIGHTS


def pixel_sum(images):
    return tf.reduce_sum(images, axis=(1, 2, 3))[:, None]


MODELS = {
    "linear": linear,
    "NaN gradient": lambda x: linear(x) + 0 * pixel_sum(tf.sqrt(x)),
    "infinite gradient": lambda x: linear(tf.sqrt(x)),
    "infinite gradient of one class": lambda x: linear(x) + pixel_sum(tf.sqrt(x)) * [0.0, 1, 0, 0],
    "zero gradient": lambda x: linear(x) * 0 + [0.0, 1, 0, 0],
    "gradient near zero": lambda x: linear(x) * 1e-37 + tf.constant([0.0, 1, 0, 0]) * (1 + 1e-36 * pixel_sum(x)),
    "NaN": lambda x: linear(x) * NAN,
    "NaN of one class": lambda x: linear(x) + tf.constant([0.0, 0, NAN, 0]),
    "NaN of one image": lambda x: linear(x) + tf.where(x[:, :1, 0, 0] == 0.0, NAN, 0.0),
    "NaN after the first step": lambda x: linear(x) + tf.where(x[:, 1:2, 0, 0] == 0.5, 0.0, NAN),
    "infinite": lambda x: linear(x) * INFINITE,
    "infinite logit": lambda x: linear(x) + tf.constant([0.0, INFINITE, 0, 0]),
    "minus infinite logit": lambda x: linear(x) + tf.constant([0.0, -INFINITE, 0, 0]),
    "all infinite": lambda x: 0 * linear(x) + INFINITE,
    **{f"× {scale:g}": lambda x, scale=scale: scale * linear(x) for scale in (1e-36, *SCALES, 1e36)},
}
PATCH = Patch(np.full((5, 5, 3), 0.5, np.float32), 2, np.zeros(1), {})
ATTACKS = {  # name: (the attack, the norm of its ball, the radius)
    "fgsm": (partial(attacks.fgsm, epsilon=0.1), "linf", 0.1),
    "fgsm targeted": (partial(attacks.fgsm, epsilon=0.1, target=2), "linf", 0.1),
    "bim": (partial(attacks.bim, epsilon=0.02), "linf", 0.02),
    "mi_fgsm": (partial(attacks.mi_fgsm, epsilon=0.1, steps=3), "linf", 0.1),
    "pgd": (partial(attacks.pgd, epsilon=0.1, steps=3), "linf", 0.1),
    "pgd l2": (partial(attacks.pgd, epsilon=0.3, steps=3, norm="l2"), "l2", 0.3),
    "pgd l2 momentum": (partial(attacks.pgd, epsilon=0.3, steps=3, norm="l2", momentum=1.0, target=1), "l2", 0.3),
    "pgd restarts": (partial(attacks.pgd, epsilon=0.1, steps=2, restarts=2, early_stop=False), "linf", 0.1),
    "deepfool": (partial(attacks.deepfool, steps=3), "linf", 1.0),
    "deepfool linf": (partial(attacks.deepfool, steps=3, norm="linf"), "linf", 1.0),
    "smallest": (lambda *a, **k: attacks.smallest(*a, tolerance=0.02, largest=0.2, **k)[1], "linf", 0.2),
    "grid": (partial(attacks.spatial, angles=3, shifts=2), "linf", 1.0),
    "worst": (partial(attacks.spatial, method="worst", trials=3), "linf", 1.0),
    "first-order": (partial(attacks.spatial, method="first-order", steps=3), "linf", 1.0),
    "patch": (partial(attacks.patch, patch=PATCH), "linf", 1.0),
}


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Images with pixels of 0, of ½ and of 1, the classes that `linear` predicts, and one wrong label."""
    images = references.random((5, *SHAPE), seed=6, low=0.0).numpy()
    images[0, 0, 0], images[1:, 0, 0], images[:, 1, 0], images[:, 2] = 0.0, 0.25, 0.5, 0.0
    images[:, 3, :3] = 1.0
    labels = np.argmax(linear(images), axis=1)
    labels[4] = (labels[4] + 1) % 4
    return images, labels


def predictions_of(network, images) -> np.ndarray:
    """The predicted classes [B], `NO_CLASS` if an answer has a NaN."""
    logits = np.asarray(network(tf.constant(images)))
    return np.where(np.isnan(logits).any(axis=1), NO_CLASS, np.argmax(np.nan_to_num(logits), axis=1))


def check(result, network, images, labels, norm="linf", radius=1.0):
    """What the head of this file promises."""
    assert result.images.shape == images.shape and result.images.dtype == np.float32
    assert np.isfinite(result.images).all() and result.images.min() >= 0 and result.images.max() <= 1
    assert result.columns()[norm].max() <= radius * (1 + 1e-5) + 1e-6
    before, after = (predictions_of(network, some) for some in (images, result.images))
    np.testing.assert_array_equal(result.predictions_before, before)
    np.testing.assert_array_equal(result.predictions, after)
    reached = after == result.target if result.target is not None else after != labels
    np.testing.assert_array_equal(result.success, reached & (after != NO_CLASS))
    summary = result.summary()
    assert summary["accuracy_before"] == np.mean(before == labels)
    assert summary["accuracy_after"] == np.mean(after == labels)
    json.dumps([summary, plain(result.columns())], allow_nan=False)
    np.testing.assert_equal(columns_from(plain(result.columns())), result.columns())


@pytest.mark.sample(7)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_on_every_model(name, model):
    attack, norm, radius = ATTACKS[name]
    images, labels = images_and_labels()
    check(attack(MODELS[model], images, labels, compile="eager"), MODELS[model], images, labels, norm, radius)


@pytest.mark.sample("graph.*pgd l2-NaN gradient", "graph.*deepfool-infinite gradient$")
@pytest.mark.parametrize("model", ["NaN gradient", "infinite gradient", "NaN of one image", "× 1e-20"])
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_every_attack_on_every_model_compiled(mode, name, model):
    attack, norm, radius = ATTACKS[name]
    images, labels = images_and_labels()
    check(attack(MODELS[model], images, labels, compile=mode), MODELS[model], images, labels, norm, radius)


# The same result at every scale ----------------------------------------------------------------------------


@pytest.mark.sample("^1e-30-l2$", "^1e-20-linf$", "^1e.20-l2$", "^1e.36-linf$")
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scale", (1e-36, *SCALES, 1e36))
def test_deepfool_does_not_depend_on_the_scale_of_the_logits(norm, scale):
    images, labels = images_and_labels()
    models = MODELS["linear"], MODELS[f"× {scale:g}"]
    once, scaled = (attacks.deepfool(model, images, labels, norm=norm, compile="eager") for model in models)
    assert once.success.all() and once.columns()[norm][:4].min() > 1e-3
    np.testing.assert_allclose(scaled.images, once.images, atol=1e-4)
    if scale in SCALES:  # beyond, small logits are denormal, and rounding decides about a last short step
        np.testing.assert_array_equal(scaled.iterations, once.iterations)


@pytest.fixture(scope="module")
def network():
    return Network("tiny", small, size=8, classes=10, seed=3)


@pytest.mark.sample("bfloat16-1e-20-l2")
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_deepfool_of_a_network_whose_last_weights_are_scaled(network, precision, scale, norm):
    images = references.random((6, 8, 8, 3), seed=7, low=0.0)
    labels = np.argmax(network(images), axis=1)
    once = attacks.deepfool(network, images, labels, norm=norm, precision=precision, candidates=4)
    scaled = Network("scaled", small, size=8, classes=10, seed=3)
    for path, variable in scaled.variables.items():
        if path.startswith("logits"):
            variable.assign(variable * 2.0 ** round(np.log2(scale)))
    found = attacks.deepfool(scaled, images, labels, norm=norm, precision=precision, candidates=4)
    assert once.success.all() and found.success.all()
    np.testing.assert_allclose(found.images, once.images, atol=1e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_a_step_along_the_gradient_does_not_depend_on_a_small_scale(scale):
    """Larger logits saturate the loss: its gradient is zero in float32, and the attack keeps the image."""
    images, labels = images_and_labels()
    for name in ("fgsm", "pgd l2"):
        attack, norm, _ = ATTACKS[name]
        result = attack(MODELS[f"× {scale:g}"], images, labels, compile="eager")
        assert scale > 1 or result.columns()[norm].min() > 0.05


# Networks, and attacks that need more than a function -------------------------------------------------------


def broken(model: str, value: float, **settings) -> Network:
    """A network of the library with one value among its last weights replaced."""
    network = rawcnn.create(model, size=8, seed=1, **settings)
    weights = list(network.variables.values())[-2]
    flat = weights.numpy()
    flat[(0,) * flat.ndim] = value
    weights.assign(flat)
    return network


@pytest.mark.parametrize("value", [NAN, INFINITE, 1e30, 1e-30])
@pytest.mark.sample("False-nan")
@pytest.mark.parametrize("early_stop", [False, True])
def test_logit_pga(early_stop, value):
    network = broken("cifar_resnet20", value, discretize="onehot", levels=4)
    images = references.random((3, 8, 8, 3), seed=8, low=0.0).numpy()
    labels = np.maximum(predictions_of(network, images), 0)
    result = attacks.logit_pga(network, images, labels, early_stop=early_stop, steps=2)
    check(result, network, images, labels, "linf", 0.031)


@pytest.mark.parametrize("model", ["NaN gradient", "infinite gradient", "NaN", "× 1e+30", "× 1e-30"])
def test_a_patch_stays_finite(model):
    images, labels = images_and_labels()
    made = attacks.make_patch(MODELS[model], images, target=1, steps=3, batch=2, compile="eager")
    assert np.isfinite(made.pixels).all() and made.pixels.min() >= 0 and made.pixels.max() <= 1
    result = attacks.patch(MODELS[model], images, labels, patch=made, compile="eager")
    check(result, MODELS[model], images, labels)


@pytest.mark.parametrize("model", ["NaN gradient", "infinite gradient", "NaN", "× 1e+30", "× 1e-30"])
def test_adversarial_training_sees_finite_images(model):
    images, labels = images_and_labels()
    attacked = attacks.Adversary(0.1, steps=3)(MODELS[model], tf.constant(images), tf.constant(labels), [0, 1])
    assert np.isfinite(attacked).all() and np.max(np.abs(attacked - images)) <= 0.1 + 1e-6


@pytest.mark.parametrize("make", [attacks.evolve, partial(attacks.ascend, steps=2)])
@pytest.mark.parametrize("model", ["NaN", "infinite"])
def test_fooling_images_of_answers_that_are_not_finite_are_refused(make, model):
    with pytest.raises(ValueError, match="not finite"):
        make(MODELS[model], size=6, compile="eager")


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_fooling_images_of_other_scales(scale):
    made = attacks.ascend(MODELS[f"× {scale:g}"], size=6, steps=3, compile="eager")
    assert np.isfinite(made.images).all() and made.images.min() >= 0 and made.images.max() <= 1
    assert np.isfinite(made.confidences).all() and np.isfinite(made.history).all()


def test_an_oracle_that_answers_nan_teaches_nothing():
    oracle = broken("cifar_resnet20", NAN)
    seeds = references.random((4, 8, 8, 3), seed=8, low=0.0)
    with pytest.raises(ValueError, match="the oracle's answer to 4 of 4 images is NaN"):
        attacks.make_substitute(oracle, seeds, classes=10, rounds=1)


def test_a_substitute_shown_to_an_oracle_that_answers_nan():
    images, labels = images_and_labels()
    made = attacks.Substitute(Network("student", small, size=6, classes=10), 0, [], {})
    oracle = Network("teacher", small, size=6, classes=10)
    list(oracle.variables.values())[-1].assign([NAN] * 10)
    result = attacks.substitute(oracle, images, labels, substitute=made)
    assert not result.success.any() and result.summary()["accuracy_before"] == 0


def test_cross_entropy_of_an_infinite_logit_is_what_the_attacks_meet():
    """The reason for the rules: this loss and its gradient are NaN, although the prediction is clear."""
    logits = tf.constant([[INFINITE, 0.0]])
    assert np.isnan(kernels.cross_entropy(logits, tf.constant([0]))).all() and np.argmax(logits) == 0
