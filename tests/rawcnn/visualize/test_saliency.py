"""Saliency: closed forms of a linear network, completeness, and what must not matter."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.nn.layers import dense
from rawcnn.nn.network import Network
from rawcnn.visualize import saliency
from rawcnn.visualize.saliency import (
    Saliency,
    input_gradient,
    integrated_gradients,
    saliency_pictures,
    smooth_gradient,
)
from tests import references
from tests.rawcnn import small

IMAGES = references.random((3, 4, 4, 3), 1, low=0.0).numpy()
CLASSES = [2, 0, 4]
TECHNIQUES = {
    "gradient": input_gradient,
    "smooth": partial(smooth_gradient, samples=6),
    "integrated": partial(integrated_gradients, steps=6),
}


def linear(preprocessing: str = "none") -> Network:
    def model(net, images):
        return dense(net, "logits", images, 5)

    return Network("linear", model, size=4, classes=5, seed=3, preprocessing=preprocessing)


def closed_form(net: Network) -> np.ndarray:
    """[5,4,4,3]: the weights of each class, as they weigh the pixels of the image."""
    weights = net.variables["logits/weights"].numpy().astype(np.float64).T.reshape(5, 4, 4, 3)
    deviation = np.array([0.229, 0.224, 0.225])
    return {"none": weights, "torch": weights / deviation, "caffe": 255 * weights[..., ::-1]}[net.preprocessing]


# A linear network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preprocessing", ["none", "torch", "caffe"])
@pytest.mark.parametrize("technique", ["gradient", "smooth"])
def test_the_gradient_of_a_linear_network_is_its_weights(technique, preprocessing):
    net = linear(preprocessing)
    found = TECHNIQUES[technique](net, IMAGES, CLASSES)
    references.close(found.maps, closed_form(net)[CLASSES], "gradient")
    np.testing.assert_array_equal(found.classes, CLASSES)
    references.close(found.logits, net(IMAGES).numpy()[range(3), CLASSES])
    assert found.gap is None and found.maps.dtype == np.float32


@pytest.mark.parametrize("baseline", [0.0, 0.5, IMAGES[::-1].mean(0), 1 - IMAGES], ids=["black", "gray", "one", "each"])
@pytest.mark.parametrize("steps", [1, 7])
def test_integrated_gradients_of_a_linear_network(baseline, steps):
    """Gradient × (x − baseline), complete after one step."""
    net = linear("torch")
    found = integrated_gradients(net, IMAGES, CLASSES, steps=steps, baseline=baseline)
    references.close(found.maps, closed_form(net)[CLASSES] * (IMAGES - baseline), "gradient")
    np.testing.assert_allclose(found.gap, 0, atol=1e-5 * np.abs(found.logits).max())


def test_gray_maps():
    """The largest magnitude of a gradient's colors, and the sum of integrated ones."""
    maps = np.array([[[[0.5, -2, 1], [0, 0, -0.25]]]], np.float32)  # [1,1,2,3]
    gradient = Saliency(maps, np.zeros(1, np.int32), np.zeros(1, np.float32))
    integrated = Saliency(maps, np.zeros(1, np.int32), np.zeros(1, np.float32), gap=np.zeros(1))
    np.testing.assert_array_equal(gradient.grey, [[[2, 0.25]]])
    np.testing.assert_array_equal(integrated.grey, [[[-0.5, -0.25]]])
    black_to_white, red_and_blue = (saliency_pictures(s, percentile=100)[0] for s in (gradient, integrated))
    np.testing.assert_allclose(black_to_white, [[[1, 1, 1], [0.125, 0.125, 0.125]]])
    assert red_and_blue[0, 0, 2] > red_and_blue[0, 0, 0], "below zero it is blue"
    assert red_and_blue[0, 1].min() > red_and_blue[0, 0].min(), "half the size is paler"


def test_a_few_large_pixels_do_not_darken_the_rest():
    maps = np.full((1, 20, 20, 3), 0.5, np.float32)
    maps[0, 3, 4] = 100
    shown = saliency_pictures(Saliency(maps, np.zeros(1, np.int32), np.zeros(1, np.float32)))[0]
    np.testing.assert_array_equal(shown, 1)
    lone = np.where(maps > 1, maps, 0)  # the percentile is zero, the largest is what is left to scale by
    shown = saliency_pictures(Saliency(lone, np.zeros(1, np.int32), np.zeros(1, np.float32)))[0]
    assert shown[3, 4].min() == 1 and shown.sum() == 3
    nothing = saliency_pictures(Saliency(np.zeros_like(maps), np.zeros(1, np.int32), np.zeros(1, np.float32)))[0]
    np.testing.assert_array_equal(nothing, 0)


# A trained one ---------------------------------------------------------------------------------------------


def test_integrated_gradients_are_complete(trained):
    """More midpoints, a smaller gap; 64 miss a few parts in a thousand of the logit's rise."""
    network, images, labels = trained
    found, finer = (integrated_gradients(network, images, labels, steps=steps) for steps in (64, 1024))
    at_black = network(np.zeros_like(images[:1])).numpy()[0, labels]
    rise = found.logits - at_black
    references.close(found.maps.sum((1, 2, 3), dtype=np.float64), rise + found.gap, dtype="float32")
    assert np.abs(found.gap).max() < 5e-3 * np.abs(rise).max()
    assert np.abs(finer.gap).max() < np.abs(found.gap).max() / 4


def test_integrated_gradients_against_a_sum_in_a_loop(trained):
    network, images, labels = trained
    images, labels = images[:4], labels[:4]
    total = np.zeros(images.shape)
    for alpha in (0.1, 0.3, 0.5, 0.7, 0.9):
        point = tf.constant(0.25 + alpha * (images - 0.25))
        with tf.GradientTape() as tape:
            tape.watch(point)
            logits = tf.reduce_sum(network(point) * tf.one_hot(labels, 10))
        total += tape.gradient(logits, point).numpy()
    found = integrated_gradients(network, images, labels, steps=5, baseline=0.25)
    references.close(found.maps, total / 5 * (images - 0.25), "gradient")


def test_without_noise_the_smooth_gradient_is_the_gradient(trained):
    network, images, labels = trained
    plain = input_gradient(network, images, labels)
    references.close(smooth_gradient(network, images, labels, spread=0, samples=5).maps, plain.maps, "gradient")


def test_the_noise_is_as_wide_as_it_says(monkeypatch):
    """What the steps are given: the deviation is a share of each image's own range, and each sample's another."""
    net, given = linear(), []
    images = IMAGES.repeat(4, axis=1).repeat(4, axis=2) * np.array([1, 0.5, 0.1], np.float32)[:, None, None, None]
    net = Network("wide", lambda net, x: dense(net, "logits", x, 5), size=16, classes=5)

    def step(rows, classes):
        given.append(rows.numpy())
        return tf.zeros_like(rows), classes, classes

    first = saliency._at_images(net, images, CLASSES, "eager")
    monkeypatch.setattr(saliency, "_at_images", lambda *_: (step, *first[1:]))
    smooth_gradient(net, images, CLASSES, samples=30, spread=0.2)
    noise = np.concatenate(given).reshape(30, 3, 16, 16, 3) - images
    expected = 0.2 * np.ptp(images, axis=(1, 2, 3))
    np.testing.assert_allclose(noise.std(axis=(0, 2, 3, 4)), expected, rtol=0.03)
    np.testing.assert_allclose(noise.mean(axis=(0, 2, 3, 4)), 0, atol=0.02 * expected[0])
    assert np.abs(np.corrcoef(noise.reshape(30, -1)) - np.eye(30)).max() < 0.2


def test_noise_changes_the_gradient_and_a_seed_repeats_it(trained):
    network, images, labels = trained
    first, again, other = (smooth_gradient(network, images, labels, samples=5, seed=s) for s in (4, 4, 5))
    assert first.maps.tobytes() == again.maps.tobytes()
    assert references.error(other.maps, first.maps) > 0.01
    assert references.error(first.maps, input_gradient(network, images, labels).maps) > 0.01


# What must not matter --------------------------------------------------------------------------------------


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_batch_is_its_images_one_by_one(trained, technique):
    network, images, labels = trained
    together = TECHNIQUES[technique](network, images[:5], labels[:5])
    for i in range(5):
        alone = TECHNIQUES[technique](network, images[i : i + 1], int(labels[i]))
        references.close(together.maps[i], alone.maps[0], "gradient")
        references.close(together.logits[i], alone.logits[0])
        if together.gap is not None:
            np.testing.assert_allclose(together.gap[i], alone.gap[0], atol=1e-4)


@pytest.mark.parametrize("technique", ["smooth", "integrated"])
@pytest.mark.parametrize("rows", [1, 4, 7, 10**6])
def test_steps_of_any_size_give_the_same(trained, monkeypatch, technique, rows):
    """And take no more than ROWS images at a time, unless the batch is larger."""
    network, images, labels = trained
    expected = TECHNIQUES[technique](network, images[:2], labels[:2])
    monkeypatch.setattr(saliency, "ROWS", rows)
    references.close(TECHNIQUES[technique](network, images[:2], labels[:2]).maps, expected.maps, "gradient")
    sizes = []

    def step(given, classes):
        sizes.append(len(given))
        return tf.zeros_like(given), classes, classes

    saliency.mean_gradient(step, lambda k: images[:2], 6, labels[:2])
    assert sum(sizes) == 12 and set(sizes) == {{1: 2, 4: 4, 7: 6, 10**6: 12}[rows]}


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_compiled_is_eager(trained, technique, mode):
    network, images, labels = trained
    eager, other = (TECHNIQUES[technique](network, images[:3], labels[:3], compile=m) for m in ("eager", mode))
    references.close(other.maps, eager.maps, "gradient")
    references.close(other.logits, eager.logits)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_without_classes_it_is_the_predicted_ones(trained, technique):
    """Predicted once, from the images themselves, not from their noisy copies."""
    network, images, _ = trained
    predicted = network(images).numpy().argmax(axis=1)
    found, named = (TECHNIQUES[technique](network, images, classes) for classes in (None, predicted))
    np.testing.assert_array_equal(found.classes, predicted)
    np.testing.assert_array_equal(found.maps, named.maps)


def test_a_network_in_bfloat16():
    """A few switches of its pool point elsewhere, so single pixels differ; on the whole the map is the same."""
    images = references.random((2, 8, 8, 3), 5, low=0.0)
    narrow, wide = (input_gradient(small.network(precision=p), images, [1, 7]) for p in ("bfloat16", "float32"))
    assert narrow.maps.dtype == np.float32 and narrow.logits.dtype == np.float32
    references.close(narrow.logits, wide.logits, dtype="bfloat16")
    assert np.corrcoef(narrow.maps.ravel(), wide.maps.ravel())[0, 1] > 0.98


# Bad input -------------------------------------------------------------------------------------------------

LEVELS = np.linspace(0, 255, 48, dtype=np.float32).reshape(1, 4, 4, 3)

WRONG = {
    r"classes are \[5\]; linear has classes 0 to 4": lambda n: input_gradient(n, IMAGES, [0, 1, 5]),
    "there are 2 classes for 3 images": lambda n: input_gradient(n, IMAGES, [0, 1]),
    r"expected a batch \[B,H,W,3\]": lambda n: input_gradient(n, IMAGES[0]),
    "divide bytes by 255": lambda n: smooth_gradient(n, np.zeros((1, 4, 4, 3), np.uint8)),
    "samples is 0": lambda n: smooth_gradient(n, IMAGES, samples=0),
    "spread is -1": lambda n: smooth_gradient(n, IMAGES, spread=-1),
    "spread is nan": lambda n: smooth_gradient(n, IMAGES, spread=float("nan")),
    "steps is 0": lambda n: integrated_gradients(n, IMAGES, steps=0),
    r"baseline has shape \(2, 3\); expected a number or the shape of \(3, 4, 4, 3\)": lambda n: integrated_gradients(
        n, IMAGES, baseline=np.zeros((2, 3))
    ),
    "compile is 'fast'": lambda n: input_gradient(n, IMAGES, compile="fast"),
    r"images have values from 0 to 255; expected numbers in \[0,1\]": lambda n: input_gradient(n, LEVELS),
    r"images have values from -0\.1\d* to 0": lambda n: integrated_gradients(n, LEVELS * 0 - np.eye(4)[..., None] / 10),
    "images have values that are not finite, 48 of 48": lambda n: integrated_gradients(n, LEVELS * np.nan),
    "images have values that are not finite, 48 of 48; expected": lambda n: smooth_gradient(n, LEVELS + np.inf),
    "the baseline.s pixels have values that are not finite, 1 of 1;": lambda n: integrated_gradients(
        n, IMAGES, baseline=np.nan
    ),
    "the baseline.s pixels have values from 0 to 255": lambda n: integrated_gradients(n, IMAGES, baseline=255),
    "the baseline.s pixels have values from -1 to -?0": lambda n: integrated_gradients(
        n, IMAGES, baseline=-np.eye(4)[..., None]
    ),
    "the baseline is None; expected a number or the shape": lambda n: integrated_gradients(n, IMAGES, baseline=None),
    "the baseline is an array of complex128; expected a number": lambda n: integrated_gradients(
        n, IMAGES, baseline=np.zeros(3) + 0j
    ),
    "the baseline has rows of different lengths; expected": lambda n: integrated_gradients(
        n, IMAGES, baseline=[[0.5], [0.5, 0.5]]
    ),
    "there are no images; expected one or more": lambda n: input_gradient(n, IMAGES[:0]),
}


@pytest.mark.parametrize("message", WRONG)
def test_bad_input_says_what_is_wrong(message):
    with pytest.raises(ValueError, match=message):
        WRONG[message](linear())
