"""DeepFool: the nearest decision boundary, found as if the network were linear, again and again.

Moosavi-Dezfooli, Fawzi, Frossard, CVPR 2016, algorithm 2. Of an image that the network calls 0, and of each other class
k, the linearised boundary lies at the distance |f_k − f_0| / ‖∇f_k − ∇f_0‖_q; the image moves to the nearest one:

    L2      r = |f'| / ‖w'‖₂² · w'              f' = f_l − f_0, w' = ∇f'
    L∞      r = |f'| / ‖w'‖₁  · sign(w')

until the prediction changes. The sum of all r is then made larger by the overshoot. As in the authors' code only the
ten classes that are likeliest at the start are tried, and 10⁻⁴ is added to each distance. Unlike there, images are
clipped to [0,1] after each step, so that what fools is an image.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rawcnn.attacks.active_set import advance, each
from rawcnn.attacks.common import Model, logits_of, prepare, prepared, real, slope, whole
from rawcnn.attacks.gradient import NORMS
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.trace import PRECISIONS

REACH = 1e-4  # added to each distance, so that a step from a boundary leaves it


def deepfool(
    network: Model,
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
    """The smallest change that makes the network predict another class than it does: no ε, untargeted.

    The class to leave is the prediction, not the label: of an image that is wrong before, nothing is changed.
    `candidates` classes are tried, the prediction among them. With the `precision` "bfloat16" a Network's slopes are
    taken so; its values, and who is fooled, are float32's. The rest as `fgsm`. `iterations` counts linearisations.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; expected one of {', '.join(NORMS)}")
    count, limit = whole("steps", steps, 1), real("overshoot", overshoot)
    whole("candidates", candidates, 2)
    task = prepare(network, images, labels, None, compile)
    start = task.predictions != task.labels
    settings = {"norm": norm, "candidates": min(int(candidates), task.classes), "gather": task.gathers}
    attacked, taken, asked = task.run(_deepfool, tf.constant(start), count, limit, precision=precision, **settings)
    return task.result(attacked, taken.numpy(), asked.numpy())


def _deepfool(network, images, goals, finished, steps, overshoot, *, norm, candidates, precision, gather, targeted):
    """(attacked images [B,H,W,3]; linearisations and forward passes of each, [B])."""
    model = prepared(network)
    rough = model if precision == "float32" else prepared(network, precision)
    logits = logits_of(model, images)
    likeliest = tf.math.top_k(logits, candidates).indices  # [B,K], the prediction first

    def climb(k, finished, taken, logits, x, total):
        def move(logits, x, total, done, images, goals, likeliest):
            total += nearest(differences(logits, likeliest), slopes_of(rough, x, likeliest), norm)
            x = tf.clip_by_value(images + (1 + overshoot) * total, 0.0, 1.0)
            logits = logits_of(model, x)  # told at once: who is done by this step needs no further slopes
            return logits, x, total, tf.argmax(logits, axis=1, output_type=tf.int32) != goals

        taken += tf.cast(~finished, tf.int32)
        given = images, goals, likeliest
        logits, x, total, finished = advance(move, finished, (logits, x, total, finished), given, gather=gather)
        return k + 1, finished, taken, logits, x, total

    _, _, taken, _, x, _ = tf.while_loop(
        lambda k, finished, *rest: (k < steps) & ~tf.reduce_all(finished),
        climb,
        (0, finished, tf.zeros_like(goals), logits, images, tf.zeros_like(images)),
    )
    return x, taken, 2 * taken + 1


def differences(logits: tf.Tensor, likeliest: tf.Tensor) -> tf.Tensor:
    """f' [n,K−1] of logits [n,classes]: of each of the `likeliest` [n,K] against the first."""
    chosen = tf.gather(logits, likeliest, batch_dims=1)
    return chosen[:, 1:] - chosen[:, :1]


def slopes_of(model: Model, x: tf.Tensor, likeliest: tf.Tensor) -> tf.Tensor:
    """w' [n,K−1,H,W,3], the gradients of f' to images [n,H,W,3]: K − 1 of one forward pass."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        columns = tf.unstack(differences(logits_of(model, x), likeliest), num=likeliest.shape[1] - 1, axis=1)
        sums = [tf.reduce_sum(column) for column in columns]
    return tf.stack([slope(tape, of_k, x) for of_k in sums], axis=1)


def nearest(behind: tf.Tensor, slopes: tf.Tensor, norm: str) -> tf.Tensor:
    """The way [n,H,W,3] to the nearest of the linearised boundaries f' = 0: of f' [n,K−1] and w' [n,K−1,H,W,3].

    Where f' does not depend on the image, its boundary is nowhere.
    """
    flat = tf.reshape(slopes, (-1, slopes.shape[1], int(np.prod(slopes.shape[2:]))))  # [n,K−1,H·W·3]
    size = tf.norm(flat, ord=2 if norm == "l2" else 1, axis=2)  # ‖w'‖_q [n,K−1]
    far = tf.where(size > 0, tf.math.divide_no_nan(tf.abs(behind), size), np.inf)
    which = tf.argmin(far, axis=1, output_type=tf.int32)  # l [n]
    size, far, slope = (tf.gather(v, which, batch_dims=1) for v in (size, far, slopes))
    way = slope / each(size, slope) if norm == "l2" else tf.sign(slope)
    return tf.where(each(tf.math.is_finite(far), way), each(far + REACH, way) * way, 0.0)
