"""Attacks: closed forms on a linear model, the bounds that they promise, and one trace for all ε."""

from __future__ import annotations

import gc
import inspect
import pkgutil
import re
import weakref
from collections import Counter
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import op_callbacks

import kernels
from rawcnn import attacks, create
from rawcnn.attacks import ATTACKS, bim, fgsm, mi_fgsm, pgd, problem
from rawcnn.attacks.ball import Ball
from rawcnn.attacks.common import loss_gradient
from rawcnn.attacks.runtime import run_compiled
from rawcnn.nn.network import Network
from tests import references
from tests.rawcnn.attacked import SHAPE, WEIGHTS, Linear, middling, small

# A linear model --------------------------------------------------------------------------------------------


def test_fgsm_moves_a_linear_model_by_the_l1_norm():
    """With two classes z = x·W, the label's margin falls by exactly ε‖w₁ − w₀‖₁, and the loss follows."""
    images, labels = middling(6)
    network, labels, epsilon = Linear(WEIGHTS[:, :2]), labels % 2, 0.1
    result = fgsm(network, images, labels, epsilon=epsilon)
    across = (WEIGHTS[:, 1] - WEIGHTS[:, 0]).numpy()

    def margin(x):
        return np.where(labels == 1, 1, -1) * (x.reshape(6, -1).astype(np.float64) @ across)

    def loss(x):
        return kernels.cross_entropy(network(x), tf.constant(labels)).numpy()

    fall = epsilon * np.sum(np.abs(across))
    np.testing.assert_allclose(margin(images) - margin(result.images), fall, rtol=1e-5)
    np.testing.assert_allclose(loss(images), np.log1p(np.exp(-margin(images))), rtol=1e-4)
    np.testing.assert_allclose(loss(result.images), np.log1p(np.exp(fall - margin(images))), rtol=1e-4)


def test_targeted_fgsm_follows_the_gradient_by_hand():
    """−∂loss/∂x = W·(onehot(target) − p), for a linear model of three classes."""
    images, labels = middling(6)
    probabilities = tf.nn.softmax(Linear()(images))
    gradient = (tf.one_hot([2] * 6, 3) - probabilities) @ tf.transpose(WEIGHTS)  # [B,60]
    expected = images + 0.1 * tf.sign(tf.reshape(gradient, images.shape))
    references.close(fgsm(Linear(), images, labels, epsilon=0.1, target=2).images, expected)


def test_targeted_flips_the_sign_once():
    """Toward the one class is, with two classes, away from the other."""
    images, _ = middling(8)
    network, zeros = Linear(WEIGHTS[:, :2]), np.zeros(8, int)
    away, toward = (fgsm(network, images, zeros, target=t) for t in (None, 1))
    np.testing.assert_array_equal(away.images, toward.images)
    np.testing.assert_array_equal(toward.success, toward.predictions == 1)
    back = fgsm(network, images, zeros, target=0)
    np.testing.assert_allclose(back.noise, -away.noise, atol=1e-7)


def test_l2_goes_straight_and_exactly_epsilon_far():
    """From a random start, of a model that it cannot fool: the end is ε along the unit normal of the boundary."""
    images, _ = middling(5)
    weights = 0.1 * WEIGHTS[:, :2]
    across = (weights[:, 1] - weights[:, 0]).numpy()

    def sure(x):
        return Linear(weights)(x) + tf.constant([3.0, 0.0])

    result = pgd(sure, images, [0] * 5, epsilon=0.5, step=0.2, steps=30, norm="l2")
    assert not result.success.any()
    straight = 0.5 * across / np.linalg.norm(across)
    np.testing.assert_allclose(result.noise.reshape(5, -1), np.tile(straight, (5, 1)), atol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_zero_gradient_moves_nothing(norm):
    images, labels = middling(3)
    result = pgd(lambda x: 0 * Linear()(x), images, labels, norm=norm, random_start=False)
    np.testing.assert_array_equal(result.images, images)


def test_a_loss_almost_zero_still_has_a_direction():
    """A mean over the batch or a plain sum of squares would underflow; probabilities rounded to 1 would give zero."""
    images, _ = middling(2)
    network = Linear(WEIGHTS[:, :2] * 2.0)
    labels = np.argmax(network(images), 1)
    for attack in (lambda **k: fgsm(network, **k), lambda **k: pgd(network, norm="l2", random_start=False, **k)):
        assert np.all(attack(images=images, labels=labels, epsilon=0.1).columns()["linf"] > 0)


# What every attack promises --------------------------------------------------------------------------------


def test_pgd_of_one_full_step_is_fgsm(trained):
    network, images, labels = trained
    for target in (None, (labels + 1) % 10):
        single = pgd(network, images, labels, step=8 / 255, steps=1, random_start=False, target=target)
        np.testing.assert_array_equal(single.images, fgsm(network, images, labels, target=target).images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("random_start", [False, True])
def test_epsilon_zero_is_the_identity(trained, norm, random_start):
    network, images, labels = trained
    result = pgd(network, images, labels, epsilon=0.0, norm=norm, random_start=random_start)
    np.testing.assert_array_equal(result.images, images)
    np.testing.assert_array_equal(fgsm(network, images, labels, epsilon=0).images, images)
    np.testing.assert_array_equal(result.success, result.already_wrong)


@pytest.mark.parametrize("settings", [{}, {"restarts": 2, "seed": 3}, {"norm": "l2", "epsilon": 0.5, "step": 0.1}])
def test_a_batch_is_the_same_as_single_calls(trained, settings):
    network, images, labels = trained
    together = pgd(network, images[:6], labels[:6], **settings)
    for i in range(6):
        alone = pgd(network, images[i : i + 1], labels[i : i + 1], first=i, **settings)
        np.testing.assert_allclose(alone.images[0], together.images[i], atol=1e-6)
        assert alone.iterations[0] == together.iterations[i]


@pytest.mark.sample("1$")
@pytest.mark.parametrize("settings", [{}, {"norm": "l2", "epsilon": 0.5, "step": 0.1, "restarts": 2, "steps": 4}])
def test_eager_graph_and_xla_agree(trained, settings):
    network, images, labels = trained
    eager, graph, xla = (
        pgd(network, images[:16], labels[:16], compile=mode, **settings) for mode in ("eager", "graph", "xla")
    )
    for other in (graph, xla):  # a gradient that rounds to the other side of 0 turns one pixel's sign
        assert np.mean(np.abs(other.images - eager.images) > 1e-6) < 0.002
        np.testing.assert_array_equal(other.predictions, eager.predictions)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_the_same_everywhere(norm):
    def points(seed):
        return Ball(norm).sample(SHAPE, 4 + tf.range(3), seed, tf.constant(1))

    references.same_everywhere(points, tf.constant(5))
    assert np.any(points(tf.constant(5)) != points(tf.constant(6)))


def test_random_starts_are_uniform_in_the_ball():
    """In the L2 ball of dimension 3, a share r³ lies within r; in L∞ every coordinate is uniform."""
    shape, images, zero = (1, 1, 3), tf.range(4000), tf.constant(0)
    points = tf.function(Ball("l2").sample, autograph=False)(shape, images, zero, zero).numpy().reshape(-1, 3)
    radius = np.sort(np.linalg.norm(points, axis=1)) ** 3
    assert np.max(np.abs(radius - np.linspace(0, 1, 4000))) < 0.03  # Kolmogorov-Smirnov: 1.63/√4000 at 1 %
    assert np.max(np.abs(points.mean(0))) < 0.03
    cube = tf.function(Ball("linf").sample, autograph=False)(shape, images, zero, zero)
    cube = np.sort(cube.numpy().ravel())
    assert np.max(np.abs(cube - np.linspace(-1, 1, 12000))) < 0.03


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_all_that_pgd_shows_a_network_is_inside_the_ball(norm):
    """Each random start and each step, not the result alone. Starts may be as far away as the ball allows."""
    images, shown = references.random((16, 4, 4, 3), 3, low=0.0).numpy(), []
    weights = references.random((48, 5), 4)

    def network(x):
        shown.append(x.numpy())
        return tf.reshape(x, (-1, 48)) @ weights

    epsilon = 0.2 if norm == "linf" else 0.8
    settings = {"epsilon": epsilon, "steps": 3, "restarts": 2, "norm": norm, "early_stop": False, "compile": "eager"}
    pgd(network, images, np.argmax(network(tf.constant(images)), axis=1), **settings)
    noises = [batch - images for batch in shown]
    assert len(noises) >= 8 and min(batch.min() for batch in shown) >= 0 and max(batch.max() for batch in shown) <= 1
    order = np.inf if norm == "linf" else 2
    lengths = np.array([np.linalg.norm(noise.reshape(16, -1), ord=order, axis=1) for noise in noises])
    assert lengths.max() <= epsilon * (1 + 1e-5)
    starts = lengths[lengths.max(axis=1) > 0][0]
    assert 0.9 * epsilon < starts.max() and np.median(starts) > epsilon / 2


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    epsilon=st.floats(0, 0.5),
    step=st.floats(0, 0.5),
    steps=st.integers(1, 4),
    restarts=st.integers(1, 2),
    seed=st.integers(0, 2**31 - 1),
    norm=st.sampled_from(["linf", "l2"]),
)
def test_always_inside_the_ball_and_the_pixels(trained, epsilon, step, steps, restarts, seed, norm):
    network, images, labels = trained
    settings = {"epsilon": epsilon, "step": step, "steps": steps, "restarts": restarts, "seed": seed, "norm": norm}
    result = pgd(network, images[:4], labels[:4], **settings)
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert result.images.dtype == np.float32
    assert np.all(result.columns()[norm] <= epsilon * (1 + 1e-5) + 1e-6)
    np.testing.assert_array_equal(result.predictions, np.argmax(network(result.images), axis=1))
    assert np.all(result.iterations <= steps * restarts)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("target", [None, 3])
def test_success_is_what_the_images_returned_predict(trained, name, target):
    network, images, labels = trained
    known = inspect.signature(ATTACKS[name]).parameters
    settings = {"epsilon": 0.1, "target": target, "rotation": 180.0, "steps": 2 if name == "deepfool" else 10}
    result = ATTACKS[name](network, images, labels, **{key: v for key, v in settings.items() if key in known})
    target = target if "target" in known else None
    predictions = np.argmax(network(result.images), axis=1)
    np.testing.assert_array_equal(result.predictions, predictions)
    np.testing.assert_array_equal(result.success, predictions != labels if target is None else predictions == 3)
    np.testing.assert_array_equal(result.already_wrong, np.argmax(network(images), axis=1) != labels)
    confidences = tf.reduce_max(tf.nn.softmax(network(result.images)), axis=1)
    references.close(result.confidences, confidences, kind="network")
    assert 0 < np.sum(result.success) < 64


def test_pgd_is_not_weaker_than_fgsm(trained):
    """For each image, if PGD's first step is FGSM's: fooled images stay fooled."""
    network, images, labels = trained
    for epsilon in (0.02, 0.05, 0.1):
        once = fgsm(network, images, labels, epsilon=epsilon)
        often = pgd(network, images, labels, epsilon=epsilon, step=epsilon, random_start=False)
        assert np.all(often.success[once.success])
        usual = pgd(network, images, labels, epsilon=epsilon, step=epsilon / 4)
        assert np.sum(usual.success) >= np.sum(once.success)


@pytest.mark.parametrize("epsilon", [0.02, 0.12, 0.3])
def test_the_default_pgd_is_not_weaker_than_fgsm(trained, epsilon):
    network, images, labels = trained
    once, often = (attack(network, images, labels, epsilon=epsilon) for attack in (fgsm, pgd))
    assert often.success.sum() >= once.success.sum()


@pytest.mark.parametrize("random_start", [False, True])
def test_a_fooled_image_stays_bit_identical(trained, random_start):
    network, images, labels = trained
    settings = {"epsilon": 0.1, "step": 0.025, "random_start": random_start}
    short, long = (pgd(network, images, labels, steps=steps, **settings) for steps in (3, 12))
    done = short.success
    assert 0 < np.sum(done) < 64
    np.testing.assert_array_equal(long.images[done], short.images[done])
    np.testing.assert_array_equal(long.iterations[done], short.iterations[done])
    assert np.all(long.iterations[~done] > 3)


def test_restarts_only_add(trained):
    """More restarts leave alone what is fooled; of the rest each keeps its highest loss."""
    network, images, labels = trained
    settings = {"epsilon": 0.04, "step": 0.01, "steps": 3}
    one, three = (pgd(network, images, labels, restarts=restarts, **settings) for restarts in (1, 3))
    assert 0 < np.sum(one.success) < 64
    np.testing.assert_array_equal(three.images[one.success], one.images[one.success])
    loss = [kernels.cross_entropy(network(r.images), tf.constant(labels)).numpy() for r in (one, three)]
    assert np.all(loss[1][~one.success] >= loss[0][~one.success] - 1e-6)
    assert np.any(three.images[~one.success] != one.images[~one.success])


@pytest.mark.parametrize("name", ATTACKS)
def test_batch_statistics_and_weights_are_untouched(trained, name):
    network, images, labels = trained
    before = {path: v.numpy() for path, v in network.variables.items()}
    ATTACKS[name](network, images, labels)
    for path, value in before.items():
        np.testing.assert_array_equal(network.variables[path], value)


# Compiling -------------------------------------------------------------------------------------------------


@pytest.mark.sample("graph")
@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_one_trace_for_all_values(mode):
    network = Linear()
    images, labels = middling(4)
    values = [{"epsilon": 8 / 255}, {"epsilon": 0.1, "step": 0.02}, {"steps": 3, "restarts": 2, "seed": 9}]
    for attack, settings in ((fgsm, values[0]), *((pgd, value) for value in values)):
        attack(network, images, labels, compile=mode, **settings)
        if attack is pgd and settings is values[0]:
            calls = network.calls
    assert network.calls == calls
    pgd(network, images[:3], labels[:3], compile=mode)
    assert (network.calls == calls) == (mode == "graph")  # XLA compiles for a batch size, the graph for all


ONE_PROGRAM = ("fgsm", "bim", "mi_fgsm", "pgd", "deepfool", "spatial")


def test_which_attacks_are_one_compiled_function(monkeypatch):
    """The guide names them; the others call compiled functions from a loop in Python."""
    called = []

    def counted(network, function, *tensors, **settings):
        called.append(function.__name__)
        return run_compiled(network, function, *tensors, **settings)

    monkeypatch.setattr(problem, "run_compiled", counted)
    images, labels = middling(4)
    for name in ONE_PROGRAM:
        called.clear()
        ATTACKS[name](Linear(), images, labels, compile="eager")
        assert len([function for function in called if function != "_classify"]) == 1, name
    called.clear()
    attacks.smallest(Linear(), images, labels, compile="eager")
    assert len(called) > 10
    guide = (Path(__file__).parents[3] / "docs" / "guide.md").read_text(encoding="utf-8")
    sentence = guide[: guide.index("each run as one compiled function")].rsplit("\n\n", 1)[-1]
    assert set(re.findall(r"`(\w+)`", sentence)) == {*ONE_PROGRAM, "logit_pga"}


def test_what_is_kept_dies_with_the_network():
    network = Network("small", small, size=8, classes=10)
    fgsm(network, np.zeros((1, 8, 8, 3), np.float32), [0])
    reference = weakref.ref(network)
    del network
    gc.collect()
    assert reference() is None


def test_filters_get_no_gradient(trained):
    """Nothing that the gradient to the images needs is a gradient to filters: what is not needed is not run."""
    network, images, labels = trained
    graph = tf.function(lambda x: loss_gradient(network, x, tf.constant(labels), False)[0], autograph=False)
    waiting = [x.op for x in graph.get_concrete_function(tf.TensorSpec(images.shape)).outputs]
    needed: dict[str, str] = {}
    while waiting:
        op = waiting.pop()
        if op.name not in needed:
            needed[op.name] = op.type
            waiting += [x.op for x in op.inputs]
    assert "Conv2DBackpropInput" in needed.values() and "Conv2DBackpropFilter" not in needed.values()


def test_filters_get_no_gradient_eagerly_either(trained):
    """Where nothing leaves out what is not needed: every operation that runs is seen."""
    network, images, labels = trained
    ran = Counter()

    def seen(op_type, *_, **__):
        ran[op_type.decode() if isinstance(op_type, bytes) else op_type] += 1

    op_callbacks.add_op_callback(seen)
    try:
        fgsm(network, images[:4], labels[:4], compile="eager")
    finally:
        op_callbacks.remove_op_callback(seen)
    convolutions = sum(operation.kind == "conv" for operation in network.operations)
    assert ran["Conv2DBackpropInput"] == convolutions > 0 and ran["Conv2DBackpropFilter"] == 0


def test_a_callable_that_cannot_be_remembered():
    class Unhashable(Linear):
        __hash__ = None

    images, labels = middling(4)
    np.testing.assert_array_equal(fgsm(Unhashable(), images, labels).images, fgsm(Linear(), images, labels).images)
    bound = Linear().__call__
    np.testing.assert_array_equal(fgsm(bound, images, labels).images, fgsm(Linear(), images, labels).images)


def test_a_model_of_the_library():
    network = create("cifar_resnet20", size=8)
    images, labels = np.full((2, 8, 8, 3), 0.5, np.float32), [0, 1]
    result = fgsm(network, images, labels)
    np.testing.assert_allclose(np.unique(np.abs(result.noise)), [8 / 255], atol=1e-6)
    assert run_compiled(network, lambda n, x: n(x), tf.constant(images)).shape == (2, 10)


# Early stop ------------------------------------------------------------------------------------------------


def textbook(network, images, labels, start, norm="linf", momentum=0.0, *, epsilon, step, steps):
    """PGD as the paper writes it: all steps for all images, eagerly, in NumPy apart from the network's gradient."""
    x, velocity = start.astype(np.float32), np.zeros_like(images)
    axes = (1, 2, 3)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(point := tf.constant(x))
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network(point)))
        gradient = tape.gradient(loss, point).numpy()
        velocity = momentum * velocity + gradient / np.mean(np.abs(gradient), axis=axes, keepdims=True)
        if norm == "linf":
            x = np.clip(x + step * np.sign(velocity), images - epsilon, images + epsilon)
        else:
            x = x + step * velocity / np.linalg.norm(velocity.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
            noise = x - images
            length = np.linalg.norm(noise.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
            x = images + noise * np.minimum(1, epsilon / np.maximum(length, 1e-12))
        x = np.clip(x, 0, 1).astype(np.float32)
    return x


EARLY = {  # attack, its settings, and those of the textbook's loop
    "bim": (bim, {"steps": 6}, {"step": 1 / 255, "steps": 6}),
    "mi_fgsm": (mi_fgsm, {"steps": 5}, {"step": 0.012, "steps": 5, "momentum": 1.0}),
    "pgd": (pgd, {"step": 0.02, "steps": 6, "random_start": False}, {"step": 0.02, "steps": 6}),
}


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("mode", ["graph", "xla", "eager"])
def test_without_early_stop_it_is_the_textbook_loop(trained, name, mode):
    network, images, labels = trained
    attack, settings, written = EARLY[name]
    result = attack(network, images, labels, epsilon=0.06, early_stop=False, compile=mode, **settings)
    expected = textbook(network, images, labels, images, epsilon=0.06, **written)
    assert np.mean(np.abs(result.images - expected) > 1e-6) < 0.005  # gradients within rounding of zero
    np.testing.assert_array_equal(result.iterations, np.full(64, written["steps"]))
    np.testing.assert_array_equal(result.queries, np.full(64, written["steps"] + 1))
    np.testing.assert_array_equal(result.predictions, np.argmax(network(result.images), axis=1))
    assert result.columns()["linf"].max() <= 0.06 + 1e-6


def test_without_early_stop_the_l2_ball_holds_too(trained):
    network, images, labels = trained
    written = {"epsilon": 0.4, "step": 0.15, "steps": 5, "norm": "l2"}
    result = pgd(network, images, labels, random_start=False, early_stop=False, **written)
    np.testing.assert_allclose(result.images, textbook(network, images, labels, images, **written), atol=1e-4)
    assert result.columns()["l2"].max() <= 0.4 * (1 + 1e-5)


@pytest.mark.parametrize("name", EARLY)
def test_early_stop_keeps_the_first_image_that_fools(trained, name):
    """The image after the first step that fools the network; the textbook's loop takes more steps from there."""
    network, images, labels = trained
    attack, settings, written = EARLY[name]
    settings = {**settings, "epsilon": 0.06, "step": 0.012}
    if name == "mi_fgsm":
        del settings["step"]  # it is ε/steps
    early, late = (attack(network, images, labels, early_stop=stop, **settings) for stop in (True, False))
    fooled = early.success & (early.iterations < written["steps"])
    assert fooled.sum() > 5 and np.all(late.iterations[fooled] > early.iterations[fooled])
    assert np.all(np.any(early.images[fooled] != late.images[fooled], axis=(1, 2, 3)))
    np.testing.assert_array_equal(early.images[~early.success], late.images[~early.success])
    loss = [kernels.cross_entropy(network(r.images[fooled]), tf.constant(labels[fooled])) for r in (early, late)]
    assert np.mean(loss[1]) > np.mean(loss[0])
    default = attack(network, images, labels, **settings)
    np.testing.assert_array_equal(default.images, early.images)


def test_restarts_and_precision_without_early_stop(trained):
    network, images, labels = trained
    settings = {"epsilon": 0.04, "step": 0.01, "steps": 3, "early_stop": False}
    one, three = (pgd(network, images, labels, restarts=restarts, **settings) for restarts in (1, 3))
    np.testing.assert_array_equal(three.images[one.success], one.images[one.success])
    assert np.all(three.iterations == 9) and np.all(three.queries == 12)
    again = pgd(network, images, labels, precision="bfloat16", **settings)
    assert np.all(again.success[one.success]) and np.all(again.iterations == 6)


def test_early_stop_is_true_or_false():
    images, labels = middling(2)
    for attack in (bim, mi_fgsm, pgd):
        with pytest.raises(ValueError, match="early_stop is 'no'; expected True or False"):
            attack(Linear(), images, labels, early_stop="no")


# Names -----------------------------------------------------------------------------------------------------


def test_no_function_hides_a_module():
    modules = {name for _, name, _ in pkgutil.iter_modules(attacks.__path__)}
    assert not modules & set(attacks.__all__)
    assert len(modules) > 15
