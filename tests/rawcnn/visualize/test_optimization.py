"""Visualization by optimization: what it climbs, what keeps it from noise, and that it repeats itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import kernels
import rawcnn
from rawcnn.nn.layers import conv, dense, global_average_pool, relu
from rawcnn.nn.network import Network
from rawcnn.visualize import objectives
from rawcnn.visualize.optimization import optimize
from rawcnn.visualize.regularization import (
    COMPARED,
    NOTHING,
    ROBUST,
    STILL,
    Regularization,
    blur_parameters,
    draw_transforms,
    images_from,
    initial_parameters,
    penalty_gradient,
)
from tests import references
from tests.rawcnn import small

QUICK = {"steps": 12, "size": 8}


@pytest.fixture(scope="module")
def network():
    return small.network()


# What is climbed -----------------------------------------------------------------------------------------------


def test_a_linear_unit_is_climbed_to_the_corner():
    """Its best image is 1 where the weight is positive and 0 where it is negative."""

    def linear(net, images):
        return dense(net, "logits", images, 3)

    network = Network("linear", linear, size=4, classes=3)
    weights = network.variables["logits/weights"].numpy().reshape(4, 4, 3, 3)
    found = optimize(network, objectives.logit(network, [0, 2]), steps=300, rate=0.2, regularization=NOTHING)
    for image, unit in zip(found.images, (0, 2), strict=True):
        assert np.array_equal(image > 0.5, weights[..., unit] > 0)
        strong = np.abs(weights[..., unit]) > 0.1  # the others are slow: their gradient is small
        assert np.abs(image - (weights[..., unit] > 0))[strong].max() < 0.05


def test_the_value_is_that_of_the_image(network):
    found = optimize(network, "conv2", [3, 7], position=(1, 2), **QUICK)
    maps = network.forward(found.images).activations["conv2"].numpy()
    references.close(found.values, [maps[0, 1, 2, 3], maps[1, 1, 2, 7]], kind="network", dtype="float32")
    assert found.images.min() >= 0 and found.images.max() <= 1 and found.images.dtype == np.float32
    assert found.history.shape == (12, 2) and np.all(found.history[-1] > found.history[0])


def test_one_step_by_hand(network):
    """Adam's first step moves each number by the rate, up the gradient of the objective with respect to it."""
    start = initial_parameters(NOTHING, 8, [[5, 0]])
    with tf.GradientTape() as tape:
        z = tf.constant(start)
        tape.watch(z)
        value = tf.reduce_mean(network.forward(tf.sigmoid(z)).activations["conv2"][..., 3])
    expected = start + 0.05 * np.sign(tape.gradient(value, z))
    found = optimize(network, "conv2", 3, size=8, steps=1, seed=5, regularization=NOTHING, compile="eager")
    references.close(found.images, tf.sigmoid(expected), kind="network", dtype="float32")


def test_steps_take_no_gradient_to_filters(network, monkeypatch):
    """Also where nothing is left out that nobody needs: eagerly."""
    watched, original = [], tf.GradientTape.gradient

    def gradient(tape, *arguments, **named):
        watched.extend(tape.watched_variables())
        return original(tape, *arguments, **named)

    monkeypatch.setattr(tf.GradientTape, "gradient", gradient)
    optimize(network, "conv2", 3, size=8, steps=1, compile="eager")
    assert watched == []


def test_minus_a_unit_goes_down(network):
    up, down = (optimize(network, sign * objectives.channel(network, "conv2", 1), **QUICK).images for sign in (1, -1))
    excited, calmed = (network.forward(x).activations["conv2"][..., 1].numpy().mean() for x in (up, down))
    gray = network.forward(tf.fill((1, 8, 8, 3), 0.5)).activations["conv2"][..., 1].numpy().mean()
    assert calmed < gray < excited


def test_a_dead_unit_is_rescued():
    """A rectifier that gray shuts everywhere has no gradient; the redirected one finds the way."""

    def shut(net, images):
        x = relu(net, conv(net, "conv1", images, 4, 3, padding="VALID"))
        return dense(net, "logits", global_average_pool(net, "pool", x), 2)

    network = Network("shut", shut, size=8, classes=2)
    weights = tf.reduce_sum(network.variables["conv1/filters"], (0, 1, 2))
    network.variables["conv1/bias"].assign(-0.1 - weights / 2)  # −.1 before the rectifier, where all is gray
    gray = network.forward(tf.fill((1, 8, 8, 3), 0.5)).activations["conv1/relu"]
    assert not gray.numpy().any()
    assert optimize(network, "conv1/relu", 2, size=8, steps=60, regularization=NOTHING).values[0] > 0


@pytest.mark.deeper
def test_any_size_of_image_below_the_classifier():
    network = rawcnn.create("alexnet", classes=3, size=67)
    assert optimize(network, "conv2/relu", 4, size=50, steps=2).images.shape == (1, 50, 50, 3)
    message = r"^fc7 needs images of 67×67, not 99×99, because .* fc6 fixes the size; .* name a layer before fc6$"
    with pytest.raises(ValueError, match=message):
        optimize(network, "fc7", 4, size=99, steps=2)


# The batch, the compiler, the seed --------------------------------------------------------------------------------


def test_a_batch_is_its_images_one_by_one(network):
    """In one batch, in batches with a remainder, alone: the same to rounding, which Adam's signs can double."""
    whole = optimize(network, "conv2", [1, 5, 9], **QUICK)
    parts = optimize(network, "conv2", [1, 5, 9], batch=2, **QUICK)
    references.close(parts.images, whole.images, kind="network", dtype="float32")
    references.close(parts.history, whole.history, kind="network", dtype="float32")
    alone = optimize(network, "conv2", 1, **QUICK)
    references.close(alone.images, whole.images[:1], kind="network", dtype="float32")


@pytest.mark.sample("xla")
@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_the_compiler_changes_nothing(network, mode):
    expected = optimize(network, "conv2", [1, 2], compile="graph", **QUICK)
    found = optimize(network, "conv2", [1, 2], compile=mode, **QUICK)
    references.close(found.images, expected.images, kind="gated network", dtype="float32")  # twelve steps of rounding
    assert found.settings == {**expected.settings, "compile": mode}


def test_the_same_seed_the_same_bytes(network):
    first, again, other = (optimize(network, "conv2", 4, seed=seed, frames=3, **QUICK) for seed in (7, 7, 8))
    assert first.images.tobytes() == again.images.tobytes()
    assert [f.tobytes() for _, f in first.frames] == [f.tobytes() for _, f in again.frames]
    assert not np.array_equal(first.images, other.images)


def test_frames_and_progress(network):
    told = []
    found = optimize(network, "conv2", [1, 2, 3], frames=4, batch=2, progress=lambda *done: told.append(done), **QUICK)
    assert [step for step, _ in found.frames] == [1, 2, 5, 12]
    assert all(images.shape == (3, 8, 8, 3) for _, images in found.frames)
    np.testing.assert_array_equal(found.frames[-1][1], found.images)
    assert told == [(step, 24) for step in range(1, 25)]


def test_diversity_makes_images_differ(network):
    alike, diverse = (optimize(network, "conv2", 3, count=3, diversity=d, steps=60, size=8) for d in (0.0, 5.0))
    unlike = objectives.diversity(network, "conv2", group=3)
    before, after = (unlike.value(network.activations(x.images, ["conv2"])).numpy().sum() for x in (alike, diverse))
    assert after > before
    assert diverse.images.shape == (3, 8, 8, 3)


# Against noise ------------------------------------------------------------------------------------------------------


def test_remedies_lower_the_high_frequencies(trained):
    network = trained[0]
    energy = {
        name: optimize(network, "conv2", list(range(8)), size=24, steps=64, regularization=regularization)
        for name, regularization in COMPARED.items()
    }
    noise = np.median(energy["none"].high_frequency)
    for name in ("blur", "penalty", "robustness", "Fourier"):
        assert np.median(energy[name].high_frequency) < noise, name
    assert np.median(energy["blur"].high_frequency) < noise / 4


def test_penalties_in_loops():
    """The gradient of the weighted penalties, by a central difference of their sum in NumPy."""
    weights = Regularization(total_variation=0.3, blur_penalty=0.7, l1=0.2)
    images = np.random.default_rng(0).uniform(0, 1, (1, 5, 6, 3))
    smooth = kernels.gaussian_blur_reference(images, 1.0)  # held fixed

    def penalty(x):
        variation = np.abs(np.diff(x, axis=1)).sum() + np.abs(np.diff(x, axis=2)).sum()
        return 0.3 * variation + 0.7 * np.square(x - smooth).sum() / 2 + 0.2 * np.abs(x - 0.5).sum()

    toward = np.random.default_rng(1).standard_normal(images.shape)
    slope = (penalty(images + 1e-6 * toward) - penalty(images - 1e-6 * toward)) / 2e-6
    gradient = penalty_gradient(tf.constant(images, tf.float32), weights).numpy() * np.sqrt(90)
    assert np.sum(gradient * toward) == pytest.approx(slope, rel=1e-4)


def test_a_blurred_spectrum_is_a_blurred_image():
    """Away from the edges, which a spectrum joins and a blur mirrors."""
    settings = replace(STILL, blur=1.0, decorrelate=False)
    values = tf.constant(initial_parameters(settings, 32, [[0, 0]]) * 5)
    plain = kernels.fourier_image(tf.transpose(values, (1, 0, 2, 3, 4)), 32)
    smooth = kernels.fourier_image(tf.transpose(blur_parameters(values, settings, 32), (1, 0, 2, 3, 4)), 32)
    expected = kernels.gaussian_blur(plain, 1.0)
    references.close(smooth[:, 8:-8, 8:-8], expected[:, 8:-8, 8:-8], kind="gated network", dtype="float32")


def test_moves():
    """Within their bounds, another each step, an image's own; still where nothing moves."""
    moves = draw_transforms(ROBUST, 128, 50, [[0, 0], [0, 1]])
    assert moves.shape == (50, 2, 2, 3) and moves.dtype == np.float32
    np.testing.assert_array_equal(moves[:, 1:], draw_transforms(ROBUST, 128, 50, [[0, 1]]))
    turn = moves[..., :2].astype(float)
    scale = 1 / np.sqrt(np.linalg.det(turn))
    angle = np.degrees(np.arctan2(turn[..., 1, 0], turn[..., 0, 0]))
    assert 0.9 <= scale.min() < 0.93 and 1.07 < scale.max() <= 1.1
    assert 9 < np.abs(angle).max() <= 10 and len(np.unique(angle)) == 100
    middle = np.append(np.full(2, 63.5), 1)
    assert 2 < np.abs(moves @ middle - 63.5).max() <= 4 + 2 / 0.9 * 1.42
    still = draw_transforms(replace(ROBUST, jitter=0, scale=0, rotation=0, last_jitter=0), 9, 1, [[0]])[0, 0]
    np.testing.assert_allclose(still, [[1, 0, 0], [0, 1, 0]], atol=1e-6)


@pytest.mark.parametrize("name, crop", [("jitter", 8), ("last_jitter", 4)])
def test_jitter_is_lucids(name, crop):
    """lucid's jitter(d) crops the side minus d at a random place: by −d/2 to d/2 from the middle, all equally often."""
    still = replace(ROBUST, jitter=0, scale=0, rotation=0, last_jitter=0)
    moves = draw_transforms(replace(still, **{name: getattr(ROBUST, name)}), 128, 2000, [[0]])[:, 0]
    np.testing.assert_array_equal(moves[..., :2], np.broadcast_to(np.eye(2), (2000, 2, 2)))
    shifts = np.rint(moves[..., 2]).astype(int)  # [2000,2] down and across
    np.testing.assert_allclose(moves[..., 2], shifts, atol=1e-5)
    starts = np.arange(crop + 1)  # of lucid's random crops
    for axis in (0, 1):
        found, counts = np.unique(shifts[:, axis], return_counts=True)
        assert found.tolist() == (starts - crop // 2).tolist()
        assert counts.min() > 0.7 * 2000 / len(starts)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1


def test_moves_of_images_that_are_not_square():
    """Shifts are shares of each side; the image turns about its own middle."""
    moves = draw_transforms(replace(ROBUST, scale=0, rotation=0, last_jitter=0), (128, 64), 200, [[0]])[:, 0]
    assert np.abs(moves[..., 2]).max(axis=0).round().tolist() == [4, 2]
    turn = draw_transforms(replace(ROBUST, jitter=0, last_jitter=0), (9, 5), 3, [[0]])[:, 0]
    np.testing.assert_allclose(turn @ [4, 2, 1], np.broadcast_to([4, 2], (3, 2)), atol=1e-5)


@pytest.mark.sample("1$")
@pytest.mark.parametrize("regularization", [NOTHING, replace(ROBUST, blur=0.5), replace(NOTHING, total_variation=0.1)])
def test_images_that_are_not_square(network, regularization):
    """A unit is maximized at any height and width; the other side's images are its own."""
    for size in ((12, 8), (8, 12)):
        found = optimize(network, "conv2", 3, steps=8, size=size, regularization=regularization)
        assert found.images.shape == (1, *size, 3) and found.settings["size"] == size
        assert found.history[-1] > found.history[0]


def test_a_gray_image_is_gray(network):
    for regularization in (replace(NOTHING, grey=True), replace(ROBUST, grey=True)):
        (image,) = optimize(network, "conv2", 3, regularization=regularization, **QUICK).images
        assert np.ptp(image, axis=-1).max() == 0 and np.ptp(image) > 0


def test_colors_and_frequencies_make_an_image():
    for regularization in (NOTHING, STILL):
        values = tf.constant(initial_parameters(regularization, 9, [[3]]))
        images = images_from(values, regularization, 9)
        assert images.shape == (1, 9, 9, 3)
        references.same_everywhere(lambda v, r=regularization: images_from(v, r, 9), values)


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("conv9", 0), {}, "names near it are conv"),
        (("conv1", 99), {}, r"\[99\]; conv1 has channels 0 to 7"),
        (("conv1", 0), {"position": (9, 0)}, r"position is \(9, 0\); the map of conv1 is 8×8"),
        (("conv1",), {"position": (0, 0)}, "give a channel too"),
        (("conv1", 0), {"steps": 0}, "steps is 0"),
        (("conv1", 0), {"rate": -1.0}, "rate is -1.0"),
    ],
)
def test_what_it_refuses(network, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        optimize(network, *arguments, **options)


def test_an_objective_says_itself_what_it_excites(network):
    with pytest.raises(ValueError, match="give no channel"):
        optimize(network, objectives.layer(network, "conv1"), 3)


@pytest.mark.parametrize("setting, value", [("image", "jpeg"), ("blur", -1.0), ("scale", 1.0), ("l1", float("nan"))])
def test_regularization_checks_itself(setting, value):
    with pytest.raises(ValueError, match=setting):
        Regularization(**{setting: value})


def test_numbers_that_are_none(trained):
    network, *_ = trained
    with pytest.raises(ValueError, match="rate is nan"):
        optimize(network, "conv1", 1, rate=float("nan"))
    with pytest.raises(ValueError, match=r"channels are \['11'\]; conv1 has channels 0 to"):
        optimize(network, "conv1", "11")


@pytest.mark.parametrize("name", ["decay", "blur", "l1", "jitter", "scale", "rotation", "last_jitter", "blur_penalty"])
def test_numbers_of_a_regularization(name):
    """NumPy's and TensorFlow's scalars are Python's; what is none is refused with its own name."""
    for value in (np.float32(0.5), np.array(0.5), tf.constant(0.5)):
        assert replace(ROBUST, **{name: value}) == replace(ROBUST, **{name: 0.5})
    for value in ("a", None, True, [0.5], float("nan"), float("inf"), 1j, tf.zeros(2)):
        with pytest.raises(ValueError, match=f"^{name} is .*; expected a number"):
            replace(ROBUST, **{name: value})
    if name in ("decay", "jitter", "last_jitter", "scale"):
        with pytest.raises(ValueError, match=f"^{name} is .*; expected"):
            replace(ROBUST, **{name: 1e12})


def test_what_is_no_regularization_and_no_layer():
    network = small.network()
    with pytest.raises(ValueError, match=r"^regularization is 0\.1; expected a Regularization$"):
        optimize(network, "conv2", 1, steps=1, regularization=0.1)
    for target in (2, None, ["conv2"], np.array(2), b"conv2"):
        with pytest.raises(ValueError, match=r"^the layer is .*; expected a name, such as conv1$"):
            optimize(network, target, 1, steps=1)
