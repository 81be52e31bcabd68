"""Update rules against NumPy loops written by hand, and against TensorFlow's own training operations."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.optim import optimizers
from tests import references

STEPS = 6
RATES = (0.1, 0.1, 0.1, 0.01, 0.01, 0.001)  # a rate that drops tells "inside" from "outside"


def gradient(w):
    """The gradient of a function that is not quadratic."""
    return np.sin(3 * w) + 0.5 * w


def run(name, start, **constants):
    """Apply a rule STEPS times, as a training step does."""
    rule = optimizers.make_optimizer(name, **constants)
    w = tf.constant(start)
    slots = {slot: tf.fill(w.shape, tf.cast(value, w.dtype)) for slot, value in rule.slots.items()}
    for rate in RATES:
        w, slots = rule.update(w, tf.sin(3 * w) + 0.5 * w, slots, tf.constant(rate, w.dtype))
    return w.numpy(), slots


def by_hand_inside(w, nesterov):
    v = 0.0
    for rate in RATES:
        g = gradient(w)
        v = 0.9 * v + rate * g
        w = w - (0.9 * v + rate * g if nesterov else v)
    return w


def by_hand_outside(w):
    v = 0.0
    for rate in RATES:
        v = 0.9 * v + gradient(w)
        w = w - rate * v
    return w


def by_hand_rmsprop(w):
    v, s = 0.0, 1.0
    for rate in RATES:
        g = gradient(w)
        s = 0.8 * s + 0.2 * g * g
        v = 0.7 * v + rate * g / np.sqrt(s + 0.3)
        w = w - v
    return w


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name, constants, by_hand",
    [
        ("momentum", {}, lambda w: by_hand_inside(w, nesterov=False)),
        ("nesterov", {}, lambda w: by_hand_inside(w, nesterov=True)),
        ("momentum_outside", {}, by_hand_outside),
        ("rmsprop", {"momentum": 0.7, "decay": 0.8, "epsilon": 0.3}, by_hand_rmsprop),
    ],
)
def test_rule_equals_loop_by_hand(name, constants, by_hand, dtype):
    start = np.array([[0.3, -1.2], [2.0, 0.0]], dtype)
    expected = np.array([[by_hand(float(w)) for w in row] for row in start])
    references.close(run(name, start, **constants)[0], expected)


@pytest.mark.parametrize("name", optimizers.UPDATE_RULES)
def test_the_fused_form_is_the_rule(name):
    start, rule = references.random((3, 5), 0), optimizers.make_optimizer(name, momentum=0.8, fused=True)
    variable = tf.Variable(start)
    slots = {slot: tf.Variable(tf.fill(start.shape, value)) for slot, value in rule.slots.items()}
    for rate in RATES:
        updated, _ = rule.update(variable, tf.sin(3 * variable) + 0.5 * variable, slots, tf.constant(rate))
        assert updated is variable
    expected, values = run(name, start, momentum=0.8)
    references.close(variable, expected)
    for slot, value in values.items():
        references.close(slots[slot], value)


def test_momentum_outside_is_tensorflows():
    w, g, v = (references.random((5,), seed) for seed in range(3))
    variable, accumulator = tf.Variable(w), tf.Variable(v)
    tf.raw_ops.ResourceApplyMomentum(var=variable.handle, accum=accumulator.handle, lr=0.1, grad=g, momentum=0.9)
    new_w, new_v = optimizers.momentum_outside(w, g, v, 0.1, 0.9)
    references.close(new_w, variable.numpy())
    references.close(new_v, accumulator.numpy())


def test_rmsprop_is_tensorflows():
    w, g, v = (references.random((5,), seed) for seed in range(3))
    s = references.random((5,), 3, low=0.5)
    variables = [tf.Variable(t) for t in (w, s, v)]
    tf.raw_ops.ResourceApplyRMSProp(
        var=variables[0].handle,
        ms=variables[1].handle,
        mom=variables[2].handle,
        lr=0.045,
        rho=0.9,
        momentum=0.9,
        epsilon=1.0,
        grad=g,
    )
    for new, variable in zip(optimizers.rmsprop(w, g, s, v, 0.045), variables, strict=True):
        references.close(new, variable.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_equals_loop_by_hand(dtype):
    start = np.array([0.3, -1.2, 2.0, 0.0], dtype)
    w, mean, square = (tf.constant(value) for value in (start, 0 * start, 0 * start))
    by_hand, m, v = start.astype(np.float64), 0.0, 0.0
    for number, rate in enumerate(RATES, start=1):
        g = gradient(by_hand)
        m, v = 0.8 * m + 0.2 * g, 0.99 * v + 0.01 * g * g
        by_hand = by_hand - rate * (m / (1 - 0.8**number)) / (np.sqrt(v / (1 - 0.99**number)) + 0.1)
        g, rate = tf.sin(3 * w) + 0.5 * w, tf.constant(rate, dtype)
        w, mean, square = optimizers.adam(w, g, mean, square, rate, number, (0.8, 0.99), 0.1)
    for ours, expected in ((w, by_hand), (mean, m), (square, v)):
        references.close(ours, expected)


def test_adam_is_tensorflows():
    """TensorFlow adds ε before it corrects the mean square, so ε is tiny here."""
    w, m, g = (tf.cast(references.random((5,), seed), tf.float64) for seed in range(3))
    v = tf.cast(references.random((5,), 3, low=0.5), tf.float64)
    variables = [tf.Variable(t) for t in (w, m, v)]
    tf.raw_ops.ResourceApplyAdam(
        var=variables[0].handle,
        m=variables[1].handle,
        v=variables[2].handle,
        beta1_power=0.9**4,
        beta2_power=0.999**4,
        lr=0.045,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-20,
        grad=g,
    )
    new = optimizers.adam(w, g, m, v, tf.constant(0.045, tf.float64), 4, epsilon=1e-20)
    for ours, variable in zip(new, variables, strict=True):
        references.close(ours, variable.numpy())


def test_inside_and_outside_part_only_when_the_rate_changes():
    w, g, v = (tf.constant([x]) for x in (1.0, 2.0, 0.5))

    def difference(rate):  # of the rules, both after steps at the rate .1
        inside, _ = optimizers.momentum(w, g, -0.1 * v, rate)
        outside, _ = optimizers.momentum_outside(w, g, v, rate)
        return float(outside[0] - inside[0])

    assert abs(difference(0.1)) < 1e-6
    assert abs(difference(0.01) - 0.9 * 0.5 * (0.1 - 0.01)) < 1e-6  # the old velocity still has the old rate


@pytest.mark.parametrize("name", optimizers.UPDATE_RULES)
def test_update_is_the_same_everywhere(name):
    rule = optimizers.make_optimizer(name)
    w, g, rate = references.random((4, 3), 0), references.random((4, 3), 1), tf.constant(0.1)
    slots = [tf.fill(w.shape, value) for value in rule.slots.values()]

    def update(w, g, rate, *slots):
        new, after = rule.update(w, g, dict(zip(rule.slots, slots, strict=True)), rate)
        return [new, *after.values()]

    references.same_everywhere(update, w, g, rate, *slots)


def test_clip_keeps_direction_and_says_the_norm():
    gradients = {"a": tf.constant([3.0, 0.0]), "b": tf.constant([[4.0], [12.0]])}  # norm 13
    clipped, norm = optimizers.clip_by_global_norm(gradients, 6.5)
    references.close(norm, 13.0)
    for path, g in gradients.items():
        references.close(clipped[path], g.numpy() / 2)
    for limit in (14.0, None):
        untouched, norm = optimizers.clip_by_global_norm(gradients, limit)
        references.close(norm, 13.0)
        for path, g in gradients.items():
            np.testing.assert_array_equal(untouched[path], g)


def test_clip_does_not_hide_what_is_not_finite():
    for bad in (np.nan, np.inf):
        clipped, norm = optimizers.clip_by_global_norm({"a": tf.constant([1.0]), "b": tf.constant([bad])}, 2.0)
        assert not np.isfinite(norm)
        assert all(np.isnan(c).all() for c in clipped.values())


def test_clip_adds_up_bfloat16_in_float32():
    gradient = tf.ones((10_000,), tf.bfloat16)
    clipped, norm = optimizers.clip_by_global_norm({"a": gradient}, 50.0)
    assert norm.dtype == tf.float32 and float(norm) == 100.0
    assert clipped["a"].dtype == tf.bfloat16 and float(clipped["a"][0]) == 0.5


def test_moving_average_equals_loop_by_hand():
    values = np.random.default_rng(0).standard_normal(20)
    for decay, warm in ((0.9, False), (0.9, True), (0.9999, True)):
        average, expected = tf.constant(5.0, tf.float64), 5.0
        for step, value in enumerate(values):
            d = min(decay, (1 + step) / (10 + step)) if warm else decay
            expected = d * expected + (1 - d) * value
            average = optimizers.moving_average(average, value, decay, tf.constant(step) if warm else None)
        references.close(average, expected)


def test_moving_average_with_steps_forgets_the_start():
    average = tf.constant(100.0)
    for step in range(200):
        average = optimizers.moving_average(average, tf.constant(1.0), 0.9999, step)
    assert abs(float(average) - 1) < 1e-3


def test_unknown_name():
    with pytest.raises(ValueError, match="optimizer is 'adam'; expected one of momentum"):
        optimizers.make_optimizer("adam")
