"""DeepFool: step to the nearest decision boundary of the linearized network until the prediction changes.

Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, algorithm 2. Let k̂ be the class that the network predicts. The linearized
boundary to another class k lies at the distance |f_k − f_k̂| / ‖∇f_k − ∇f_k̂‖_q, where q is the dual norm: 2 for L2, 1
for L∞. The image moves to the nearest one:

    L2      r = |f'| / ‖w'‖₂² · w'              f' = f_l − f_k̂, w' = ∇f'
    L∞      r = |f'| / ‖w'‖₁  · sign(w')

The overshoot enlarges the sum of all r in every step, and the next step linearizes at the enlarged image. This is what
the authors' code does; algorithm 2 as printed enlarges the sum once, after the last step. Also as in their code, only
the ten classes that are likeliest at the start are tried, and 10⁻⁴ is added to each distance. Unlike there, images are
clipped to [0,1] after each step, so that the result is an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import tensorflow as tf

from rawcnn.attacks.ball import NORMS
from rawcnn.attacks.checks import LONGEST, check_choice, check_integer, check_number
from rawcnn.attacks.common import Classifier, fooled, gradient_of, logits_of, per_image
from rawcnn.attacks.problem import make_problem
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.runtime import Tensors, folded_network, stop_when_done
from rawcnn.nn.trace import PRECISIONS

REACH = 1e-4  # added to each distance, so that a step from a boundary leaves it


@dataclass(frozen=True)
class DeepFoolChoices:
    """The choices of an attack, for each of which there is a compiled program."""

    norm: str
    candidates: int
    precision: str  # of the gradients


def deepfool(
    network: Classifier,
    images,
    labels,
    *,
    norm: str = "l2",
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
    precision: str = "float32",
    compile: str = "auto",
) -> AttackResult:
    """Find a small change that makes the network predict another class than it does; there is no ε and no target.

    Args:
        network: A `Network`, or any differentiable function images → logits.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B]. An image that the network is wrong about is not changed.
        norm: The norm in which the change is small, "l2" or "linf".
        steps: The largest number of linearizations.
        candidates: How many of the likeliest classes are tried, the predicted one among them.
        overshoot: By how much the total change is enlarged in every step, as a fraction.
        precision: "float32", or "bfloat16" to compute the gradients of a `Network` so. The logits, and with them
            success, are always float32.
        compile: One of `rawcnn.nn.execution.MODES`.

    Returns:
        The attacked images and the network's predictions of them. `iterations` counts linearizations.

    Raises:
        ValueError: An argument is out of range or does not fit the network.
    """
    check_choice("precision", precision, PRECISIONS)
    check_choice("norm", norm, NORMS)
    numbers = check_integer("steps", steps, 1), check_number("overshoot", overshoot)
    candidates = check_integer("candidates", candidates, 2)
    problem = make_problem(network, images, labels, None, compile)
    finished = tf.constant(problem.predictions != problem.labels)
    choices = DeepFoolChoices(norm, min(candidates, problem.classes), precision)
    attacked, taken, queries = problem.run(_deepfool, finished, *numbers, choices=choices, gather=problem.gather)
    return problem.result(attacked, taken.numpy(), queries.numpy())


def _deepfool(network, images, goals, finished, steps, overshoot, *, choices: DeepFoolChoices, gather, targeted):
    """(attacked images [B,H,W,3]; linearizations and forward passes of each, [B])."""
    model = folded_network(network)
    rough = model if choices.precision == "float32" else folded_network(network, choices.precision)  # for the gradients
    logits = logits_of(model, images)
    likeliest = tf.math.top_k(logits, choices.candidates).indices  # [B,K], the prediction k̂ first
    loop = partial(to_the_boundary, model, rough, overshoot=overshoot, norm=choices.norm)
    start, inputs = (images, tf.zeros_like(images), logits), (images, goals, likeliest)
    (x, *_), taken = stop_when_done(loop, steps, start, inputs, finished, gather=gather)
    return x, taken, 2 * taken + 1  # queries: two forward passes per step, and one at the start


def to_the_boundary(
    model: Classifier,
    rough: Classifier,
    steps: tf.Tensor | int,
    state: Tensors,
    inputs: Tensors,
    *,
    overshoot: tf.Tensor,
    norm: str,
) -> tuple[Tensors, tf.Tensor]:
    """Algorithm 2 with the overshoot in every step, for images of which none is done; `stop_when_done` removes those.

    Args:
        model: Images → logits.
        rough: The same, as the gradients are computed.
        steps: The largest number of linearizations.
        state: x [B,H,W,3], the image at the start; Σ r_i [B,H,W,3], zero at the start; the logits of x [B,classes].
        inputs: The original images [B,H,W,3], the labels k̂ [B], and the classes to try [B,K], k̂ first.
        overshoot: A fraction.
        norm: "l2" or "linf".

    Returns:
        (the new state; for which images the network predicts another class now, bool [B]).
    """
    images, labels, likeliest = inputs

    def step(i, x, total, logits, _):
        scale = scale_of(differences(logits, likeliest))  # [n,1]; f' and w' have the same boundary at every scale
        f = differences(logits, likeliest) / scale  # f'_k [n,K−1]
        w = difference_gradients(rough, x, likeliest, scale)  # w'_k [n,K−1,H,W,3]
        total += nearest_boundary(f, w, norm)  # Σ r_i [n,H,W,3]
        x = tf.clip_by_value(images + (1 + overshoot) * total, 0.0, 1.0)  # as in the authors' code, not once at the end
        logits = logits_of(model, x)  # here and not in the next step, so that finished images need no further gradient
        return i + 1, x, total, logits, fooled(logits, labels, False)

    _, *state, changed = tf.while_loop(
        lambda i, *rest: (i < steps) & ~tf.reduce_all(rest[-1]), step, (0, *state, tf.zeros_like(labels, tf.bool))
    )
    return state, changed


def differences(logits: tf.Tensor, likeliest: tf.Tensor) -> tf.Tensor:
    """f' [n,K−1] of logits [n,classes]: the logits of the `likeliest` [n,K] minus that of the first of them."""
    chosen = tf.gather(logits, likeliest, batch_dims=1)
    return chosen[:, 1:] - chosen[:, :1]


def scale_of(f: tf.Tensor) -> tf.Tensor:
    """A power of two [n,1] near the largest |f'| [n,K−1]; 1 if that is 0. A backward pass of f'/scale stays near 1."""
    scale = power_of_two_below(tf.reduce_max(tf.abs(f), axis=1, keepdims=True))
    return tf.where(scale > 0, scale, 1.0)


def difference_gradients(model: Classifier, x: tf.Tensor, likeliest: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """w' [n,K−1,H,W,3]: the gradients of f'/scale to images [n,H,W,3], K − 1 backward passes of one forward pass."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        scaled = differences(logits_of(model, x), likeliest) / scale
        columns = tf.unstack(scaled, num=likeliest.shape[1] - 1, axis=1)
        sums = [tf.reduce_sum(column) for column in columns]
    return tf.stack([gradient_of(tape, f_k, x) for f_k in sums], axis=1)


def nearest_boundary(f: tf.Tensor, w: tf.Tensor, norm: str) -> tf.Tensor:
    """r [n,H,W,3]: the way to the nearest of the boundaries f' = 0, from f' [n,K−1] and w' [n,K−1,H,W,3].

    A difference f' that is not finite or does not depend on the image has no boundary. The result is the same at every
    scale of f' and w'.
    """
    scale = power_of_two_below(tf.reduce_max(tf.abs(w), axis=(2, 3, 4)))  # m [n,K−1]
    f = tf.math.divide_no_nan(f, scale)  # f'/m and w'/m have the boundary of f' and w' …
    w = tf.math.divide_no_nan(w, scale[..., None, None, None])  # … and squares of w'/m neither overflow nor underflow
    flat = tf.reshape(w, (-1, w.shape[1], int(np.prod(w.shape[2:]))))  # [n,K−1,H·W·3]
    size = tf.norm(flat, ord=2 if norm == "l2" else 1, axis=2)  # ‖w'‖_q [n,K−1]
    distance = tf.math.divide_no_nan(tf.abs(f), size)
    distance = tf.where((size > 0) & tf.math.is_finite(distance), distance, np.inf)
    l = tf.argmin(distance, axis=1, output_type=tf.int32)  # [n]  # noqa: E741
    size, distance, w = (tf.gather(values, l, batch_dims=1) for values in (size, distance, w))
    unit = w / per_image(size, w) if norm == "l2" else tf.sign(w)
    step = tf.minimum(distance, LONGEST) + REACH  # longer ones leave [0,1] as well, and their sum could overflow
    return tf.where(per_image(tf.math.is_finite(distance), unit), per_image(step, unit) * unit, 0.0)


def power_of_two_below(x: tf.Tensor) -> tf.Tensor:
    """The largest power of two ≤ x ≥ 0, so that dividing by it rounds nothing; 0 if x is. It is x's exponent bits."""
    return tf.bitcast(tf.bitwise.bitwise_and(tf.bitcast(x, tf.int32), 0x7F800000), tf.float32)
