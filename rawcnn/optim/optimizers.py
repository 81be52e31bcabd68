"""Update rules: a variable and its gradient in, the new value and the new slots out.

w is the variable, g its gradient (weight decay included), η the learning rate, v the velocity:

    momentum          v ← m·v − η·g          w ← w + v               Krizhevsky et al. 2012, section 5
    nesterov          v ← m·v − η·g          w ← w + m·v − η·g       Sutskever et al. 2013; Bengio et al. 2013
    momentum_outside  v ← m·v + g            w ← w − η·v             torch.optim.SGD
    rmsprop           s ← d·s + (1 − d)·g²   v ← m·v + η·g/√(s + ε)  w ← w − v           Tieleman & Hinton 2012
    adam              a ← c·a + (1 − c)·g    s ← d·s + (1 − d)·g²    w ← w − η·â/(√ŝ + ε)  Kingma & Ba 2015

`momentum` and `momentum_outside` are one rule while η is constant: the velocities differ by the factor −η. After η
drops, `momentum` still takes large steps until the old velocity has decayed; `momentum_outside` slows down at once.

Each rule is a pure function of tensors. A training step that XLA compiles runs it as it is written. Elsewhere the step
runs the rule's fused form, which follows the rule in this file: one TensorFlow kernel that reads each element once and
changes the variable in place. Tests compare the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log

import tensorflow as tf

ADAM_DECAYS = 0.9, 0.999  # of the mean and of the mean square (Kingma & Ba 2015, algorithm 1)


def momentum(
    variable: tf.Tensor, gradient: tf.Tensor, velocity: tf.Tensor, rate: tf.Tensor | float, momentum: float = 0.9
) -> tuple[tf.Tensor, tf.Tensor]:
    """Update by momentum, with the learning rate inside the velocity as in AlexNet.

    Args:
        variable: The variable w, of any shape.
        gradient: The gradient g, of the shape of w.
        velocity: The velocity v, of the shape of w; zeros before the first update.
        rate: The learning rate η, a scalar.
        momentum: The part m of the velocity that is kept.

    Returns:
        The new (variable, velocity).

    Source: Krizhevsky et al. 2012, section 5. Fused form: ResourceApplyKerasMomentum.
    """
    velocity = momentum * velocity - tf.cast(rate, variable.dtype) * gradient
    return variable + velocity, velocity


def _fused_momentum(variable, gradient, velocity, rate, momentum) -> None:
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum, use_nesterov=False
    )


def nesterov(
    variable: tf.Tensor, gradient: tf.Tensor, velocity: tf.Tensor, rate: tf.Tensor | float, momentum: float = 0.9
) -> tuple[tf.Tensor, tf.Tensor]:
    """Update by Nesterov's momentum: step from where the new velocity is about to carry the variable.

    Arguments and results are those of `momentum`.

    Source: Sutskever et al. 2013, in the form of Bengio et al. 2013. Fused form: ResourceApplyKerasMomentum.
    """
    step = tf.cast(rate, variable.dtype) * gradient
    velocity = momentum * velocity - step
    return variable + (momentum * velocity - step), velocity


def _fused_nesterov(variable, gradient, velocity, rate, momentum) -> None:
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum, use_nesterov=True
    )


def momentum_outside(
    variable: tf.Tensor, gradient: tf.Tensor, velocity: tf.Tensor, rate: tf.Tensor | float, momentum: float = 0.9
) -> tuple[tf.Tensor, tf.Tensor]:
    """Update by momentum, with the learning rate outside the velocity, which is a running sum of gradients.

    Arguments and results are those of `momentum`.

    Source: torch.optim.SGD. Fused form: ResourceApplyMomentum.
    """
    velocity = momentum * velocity + gradient
    return variable - tf.cast(rate, variable.dtype) * velocity, velocity


def _fused_momentum_outside(variable, gradient, velocity, rate, momentum) -> None:
    tf.raw_ops.ResourceApplyMomentum(
        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum
    )


def rmsprop(
    variable: tf.Tensor,
    gradient: tf.Tensor,
    mean_square: tf.Tensor,
    velocity: tf.Tensor,
    rate: tf.Tensor | float,
    momentum: float = 0.9,
    decay: float = 0.9,
    epsilon: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Update by RMSProp with momentum, in the form of TF-slim, which trained the Inceptions and NASNet.

    ε is inside the root and the mean square starts at one. With ε = 1 the rule therefore begins as momentum at 1/√2 of
    the learning rate. Other libraries put ε outside the root and start at zero.

    Args:
        variable: The variable w, of any shape.
        gradient: The gradient g, of the shape of w.
        mean_square: The moving average s of g², of the shape of w; ones before the first update.
        velocity: The velocity v, of the shape of w; zeros before the first update.
        rate: The learning rate η, a scalar.
        momentum: The part m of the velocity that is kept.
        decay: The part d of the mean square that is kept.
        epsilon: ε.

    Returns:
        The new (variable, mean_square, velocity).

    Source: Tieleman & Hinton 2012, lecture 6.5. Fused form: ResourceApplyRMSProp.
    """
    mean_square = decay * mean_square + (1 - decay) * tf.square(gradient)
    step = tf.cast(rate, variable.dtype) * gradient * tf.math.rsqrt(mean_square + epsilon)
    velocity = momentum * velocity + step
    return variable - velocity, mean_square, velocity


def _fused_rmsprop(variable, gradient, mean_square, velocity, rate, momentum, decay, epsilon) -> None:
    tf.raw_ops.ResourceApplyRMSProp(
        var=variable.handle, ms=mean_square.handle, mom=velocity.handle, lr=rate, rho=decay, momentum=momentum,
        epsilon=epsilon, grad=gradient,
    )  # fmt: skip


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
    """Update by Adam. No training recipe uses it; attacks and visualization update images with it.

    Args:
        variable: The variable w, of any shape.
        gradient: The gradient g, of the shape of w.
        mean: The moving average a of g, of the shape of w; zeros before the first update.
        mean_square: The moving average s of g², of the shape of w; zeros before the first update.
        rate: The learning rate η, a scalar.
        number: The number of this update, from 1: â = a/(1 − cⁿ) and ŝ = s/(1 − dⁿ) correct the start at zero.
        decays: The parts (c, d) of the two averages that are kept.
        epsilon: ε.

    Returns:
        The new (variable, mean, mean_square).

    Source: Kingma & Ba 2015, algorithm 1.
    """
    c, d = decays
    mean, mean_square = c * mean + (1 - c) * gradient, d * mean_square + (1 - d) * tf.square(gradient)
    # 1 − cⁿ and 1 − dⁿ. For small n the plain difference loses four digits in float32
    mean_weight, square_weight = (-tf.math.expm1(tf.cast(number, variable.dtype) * log(decay)) for decay in decays)
    direction, length = mean / mean_weight, tf.sqrt(mean_square / square_weight) + epsilon
    return variable - tf.cast(rate, variable.dtype) * direction / length, mean, mean_square


# name → (rule, its fused form, its slots in the order in which both take them, with the value that each starts at)
UPDATE_RULES: dict[str, tuple[Callable, Callable, dict[str, float]]] = {
    "momentum": (momentum, _fused_momentum, {"velocity": 0.0}),
    "momentum_outside": (momentum_outside, _fused_momentum_outside, {"velocity": 0.0}),
    "nesterov": (nesterov, _fused_nesterov, {"velocity": 0.0}),
    "rmsprop": (rmsprop, _fused_rmsprop, {"mean_square": 1.0, "velocity": 0.0}),
}


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its constants.

    Attributes:
        name: One of UPDATE_RULES.
        slots: Slot → the value that all its elements start at. A slot has the shape and dtype of its variable.
        update: update(variable, gradient, slots, rate) → (variable, slots). The rule takes and returns tensors. The
            fused form takes `tf.Variable`s, changes them in place and returns them.
    """

    name: str
    slots: Mapping[str, float]
    update: Callable[..., tuple[tf.Tensor | tf.Variable, Mapping[str, tf.Tensor | tf.Variable]]]


def make_optimizer(
    name: str, momentum: float = 0.9, decay: float = 0.9, epsilon: float = 1.0, *, fused: bool = False
) -> Optimizer:
    """Return the optimizer of this name.

    Args:
        name: One of UPDATE_RULES.
        momentum: The momentum m of the rule.
        decay: RMSProp's decay d of the mean square.
        epsilon: RMSProp's ε.
        fused: Use TensorFlow's kernel of the rule, which changes `tf.Variable`s in place.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in UPDATE_RULES:
        raise ValueError(f"optimizer is {name!r}; expected one of {', '.join(UPDATE_RULES)}")
    rule, fused_rule, slot_names = UPDATE_RULES[name]
    constants = {"momentum": momentum} | ({"decay": decay, "epsilon": epsilon} if name == "rmsprop" else {})

    def update(variable, gradient, slots, rate):
        variable, *values = rule(variable, gradient, *(slots[slot] for slot in slot_names), rate, **constants)
        return variable, dict(zip(slot_names, values, strict=True))

    def update_in_place(variable, gradient, slots, rate):
        rate = tf.cast(rate, variable.dtype)
        fused_rule(variable, gradient, *(slots[slot] for slot in slot_names), rate, **constants)
        return variable, slots

    return Optimizer(name, slot_names, update_in_place if fused else update)


def global_norm(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return √(Σ x²) over all elements of all tensors, summed in float32 or wider."""
    wide = [t if t.dtype == tf.float64 else tf.cast(t, tf.float32) for t in tensors]
    return tf.sqrt(2 * tf.add_n([tf.nn.l2_loss(t) for t in wide]))  # l2_loss is ½·Σ x², and reads each element once


def clip_by_global_norm(
    gradients: Mapping[str, tf.Tensor], limit: float | None
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Scale all gradients by one factor so that their global norm is at most `limit`.

    The direction does not change. A norm that is not finite turns every gradient into NaN, so that clipping does not
    hide it.

    Args:
        gradients: Path → gradient, of any shapes.
        limit: The largest norm; None leaves the gradients as they are.

    Returns:
        The scaled gradients, and their norm before scaling, a float32 scalar.

    Source: Pascanu et al. 2013, algorithm 1.
    """
    norm = global_norm(list(gradients.values()))
    if limit is None:
        return dict(gradients), norm
    scale = tf.where(tf.math.is_finite(norm), limit / tf.maximum(norm, limit), float("nan"))
    return {path: g * tf.cast(scale, g.dtype) for path, g in gradients.items()}, norm


def moving_average(
    average: tf.Tensor, value: tf.Tensor, decay: float, step: tf.Tensor | int | None = None
) -> tf.Tensor:
    """Return the moving average a ← d·a + (1 − d)·w of a variable over training.

    Args:
        average: The average a so far, of any shape.
        value: The variable w, of the shape of a.
        decay: The decay d. The Inceptions and NASNet use .9999.
        step: The number of updates so far. It limits d to (1 + step)/(10 + step), as tf.train.ExponentialMovingAverage
            does, so that a short training is not averaged with its random start. None: no limit.

    Source: Polyak & Juditsky 1992, who average all values; here older values decay exponentially.
    """
    rate = tf.constant(decay, average.dtype)
    if step is not None:
        step = tf.cast(step, average.dtype)
        rate = tf.minimum(rate, (1 + step) / (10 + step))
    return average - (1 - rate) * (average - value)
