"""Update rules, written out: one variable and its gradient in, its new value and its new slots out.

w the variable, g its gradient (weight decay included), η the rate, v the velocity, m the momentum:

    momentum          v ← m·v − η·g     w ← w + v         Krizhevsky et al. 2012, section 5
    momentum_outside  v ← m·v + g       w ← w − η·v       torch.optim.SGD, tf.raw_ops.ResourceApplyMomentum
    rmsprop           s ← d·s + (1 − d)·g²   v ← m·v + η·g/√(s + ε)   w ← w − v   Tieleman & Hinton 2012
    adam              a ← c·a + (1 − c)·g    s ← d·s + (1 − d)·g²   w ← w − η·â/(√ŝ + ε)   Kingma & Ba 2015

With a constant rate the first two are one rule (the velocities differ by the factor −η); when the rate drops,
the first one still takes large steps until its old velocity has died away, the second slows down at once.

The rules are pure functions: tensors in, tensors out. Beside each stands TensorFlow's kernel of the same rule, which
reads every number once and changes the variable in its place: what a training step takes outside of XLA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log

import tensorflow as tf

Slots = dict[str, tf.Tensor]
ADAM_DECAYS = 0.9, 0.999  # of the mean and of the mean square: the paper's


def momentum(
    variable: tf.Tensor,
    gradient: tf.Tensor,
    velocity: tf.Tensor,
    rate: tf.Tensor | float,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The rate inside the velocity, as in AlexNet → (variable, velocity).

    Nesterov steps from where the velocity is about to carry the variable: w ← w + m·v − η·g with the new v
    (Sutskever et al. 2013, in the form of Bengio et al. 2012).
    """
    step = tf.cast(rate, variable.dtype) * gradient
    velocity = momentum * velocity - step
    return variable + (momentum * velocity - step if nesterov else velocity), velocity


def momentum_outside(
    variable: tf.Tensor,
    gradient: tf.Tensor,
    velocity: tf.Tensor,
    rate: tf.Tensor | float,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The rate outside the velocity, a running sum of gradients → (variable, velocity)."""
    velocity = momentum * velocity + gradient
    step = momentum * velocity + gradient if nesterov else velocity
    return variable - tf.cast(rate, variable.dtype) * step, velocity


def rmsprop(
    variable: tf.Tensor,
    gradient: tf.Tensor,
    mean_square: tf.Tensor,
    velocity: tf.Tensor,
    rate: tf.Tensor | float,
    decay: float = 0.9,
    epsilon: float = 1.0,
    momentum: float = 0.9,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """TF-slim's RMSProp, which trained the Inceptions and NASNet → (variable, mean_square, velocity).

    ε stands inside the root, and `mean_square` starts at one: with ε = 1 the rule begins as plain momentum at
    1/√2 of the rate. Other libraries put ε outside and start at zero.
    """
    mean_square = decay * mean_square + (1 - decay) * tf.square(gradient)
    step = tf.cast(rate, variable.dtype) * gradient * tf.math.rsqrt(mean_square + epsilon)
    velocity = momentum * velocity + step
    return variable - velocity, mean_square, velocity


def adam(
    variable: tf.Tensor,
    gradient: tf.Tensor,
    mean: tf.Tensor,
    mean_square: tf.Tensor,
    rate: tf.Tensor | float,
    number: tf.Tensor | int,
    decays: tuple[float, float] = ADAM_DECAYS,
    epsilon: float = 1e-8,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Algorithm 1 of Adam's paper, its constants → (variable, mean, mean_square).

    Both averages start at zero, so they are divided by what of them is no zero yet after `number` steps, this one
    included. No recipe trains with it: it moves images and patches.
    """
    c, d = decays
    mean, mean_square = c * mean + (1 - c) * gradient, d * mean_square + (1 - d) * tf.square(gradient)
    # 1 − cⁿ and 1 − dⁿ, of which float32 would lose four digits at first
    begun, squares_begun = (-tf.math.expm1(tf.cast(number, variable.dtype) * log(decay)) for decay in decays)
    direction, length = mean / begun, tf.sqrt(mean_square / squares_begun) + epsilon
    return variable - tf.cast(rate, variable.dtype) * direction / length, mean, mean_square


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """√(Σ x²) over all elements of all tensors, summed in float32 or wider."""
    wide = [t if t.dtype == tf.float64 else tf.cast(t, tf.float32) for t in tensors]
    return tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(t) for t in wide]))  # l2_loss reads each once; it is ½·Σ x²


def clip_by_global_norm(gradients: Sequence[tf.Tensor], limit: float) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Scale all gradients by one factor so that their global norm is at most `limit` → (gradients, old norm).

    Pascanu et al. 2013, algorithm 1. The direction stays; a norm that is not finite makes every gradient NaN,
    so that it is seen and not clipped away.
    """
    norm = global_norm(gradients)
    scale = tf.where(tf.math.is_finite(norm), limit / tf.maximum(norm, limit), float("nan"))
    return [g * tf.cast(scale, g.dtype) for g in gradients], norm


def moving_average(
    average: tf.Tensor, value: tf.Tensor, decay: float, step: tf.Tensor | int | None = None
) -> tf.Tensor:
    """Average of a variable over training: a ← d·a + (1 − d)·w.

    Polyak & Juditsky 1992 average all iterates; the Inceptions and NASNet forget old ones exponentially
    (decay .9999). With `step` (updates made so far) d is at most (1 + step)/(10 + step), as in
    tf.train.ExponentialMovingAverage, so that a short training is not averaged with its random start.
    """
    rate = tf.constant(decay, average.dtype)
    if step is not None:
        step = tf.cast(step, average.dtype)
        rate = tf.minimum(rate, (1 + step) / (10 + step))
    return average - (1 - rate) * (average - value)


def _momentum_in_place(variable, gradient, velocity, rate, momentum, nesterov=False) -> None:
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum, use_nesterov=nesterov
    )


def _momentum_outside_in_place(variable, gradient, velocity, rate, momentum) -> None:
    tf.raw_ops.ResourceApplyMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum
    )


def _rmsprop_in_place(variable, gradient, mean_square, velocity, rate, momentum, decay, epsilon) -> None:
    tf.raw_ops.ResourceApplyRMSProp(
        var=variable.handle,
        ms=mean_square.handle,
        mom=velocity.handle,
        lr=rate,
        rho=decay,
        momentum=momentum,
        epsilon=epsilon,
        grad=gradient,
    )


@dataclass(frozen=True)
class Optimizer:
    """An update rule and the slots it keeps beside each variable."""

    name: str
    slots: Mapping[str, float]  # slot → the value all its elements start at; shape and dtype of the variable
    update: Callable[[tf.Tensor, tf.Tensor, Slots, tf.Tensor], tuple[tf.Tensor, Slots]]
    """update(variable, gradient, slots, rate) → (variable, slots)"""
    update_in_place: Callable[[tf.Variable, tf.Tensor, Mapping[str, tf.Variable], tf.Tensor], None]
    """The same on variables, by one kernel of TensorFlow's."""


# name → (rule, the same in place, the slots that both take between the gradient and the rate, with their first value)
RULES: dict[str, tuple[Callable, Callable, dict[str, float]]] = {
    "momentum": (momentum, _momentum_in_place, {"velocity": 0.0}),
    "momentum_outside": (momentum_outside, _momentum_outside_in_place, {"velocity": 0.0}),
    "nesterov": (
        partial(momentum, nesterov=True),
        partial(_momentum_in_place, nesterov=True),
        {"velocity": 0.0},
    ),
    "rmsprop": (rmsprop, _rmsprop_in_place, {"mean_square": 1.0, "velocity": 0.0}),
}


def optimizer(name: str, momentum: float = 0.9, decay: float = 0.9, epsilon: float = 1.0) -> Optimizer:
    """The rule of this name; `decay` and `epsilon` are RMSProp's. Raises ValueError for an unknown name."""
    if name not in RULES:
        raise ValueError(f"optimizer is {name!r}; expected one of {', '.join(RULES)}")
    rule, in_place, slots = RULES[name]
    constants = {"momentum": momentum} | ({"decay": decay, "epsilon": epsilon} if name == "rmsprop" else {})

    def update(variable, gradient, old, rate):
        variable, *values = rule(variable, gradient, *(old[slot] for slot in slots), rate, **constants)
        return variable, dict(zip(slots, values, strict=True))

    def update_in_place(variable, gradient, owned, rate):
        in_place(variable, gradient, *(owned[slot] for slot in slots), rate, **constants)

    return Optimizer(name, slots, update, update_in_place)
