"""Compute a network's activations from its committed fingerprint with TensorFlow's own operations, in float64.

Nothing of rawcnn takes part but the values of the variables, so this is an independent reference for all modes, and for
gradients, which a tape takes through these operations.
"""

from __future__ import annotations

import ast
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tests.rawcnn.models.fingerprints import FOLDER

LINE = re.compile(r"  \.(\S*) = (\w+)\[(.*)\] → \S+ of (.*)")
MOST = 2**31 - 1  # of the second seed
WORDS = ("SAME", "VALID", "end", "both")


class Step(NamedTuple):
    """An operation of a fingerprint: its kind, its settings, and the names of what it reads."""

    kind: str
    settings: dict[str, Any]
    inputs: tuple[str, ...]


def read(name: str) -> dict[str, Step]:
    """Return the operations of a fingerprint by name, in their order."""
    bodies: dict[str, list[str]] = {}
    reads: dict[str, list[str]] = {}
    alike: dict[str, str] = {}
    module = ""
    for line in (FOLDER / f"{name}.txt").read_text().splitlines():
        if line.startswith(" "):
            bodies[module].append(line)
            continue
        header, _, same = line.partition(": as ")
        module, _, inputs = header.partition(" reads ")
        bodies[module], reads[module] = [], inputs.split(", ")
        if same:
            alike[module] = same
    return {
        step_name: step
        for module in bodies
        for line in bodies[alike.get(module, module)]
        for step_name, step in [_step(module, line, reads[module])]
    }


def _step(module: str, line: str, reads: Sequence[str]) -> tuple[str, Step]:
    own, kind, settings, inputs = LINE.fullmatch(line).groups()  # type: ignore[union-attr]
    names = [reads[int(i[1:]) - 1] if i.startswith("$") else module + i[1:] for i in inputs.split(", ")]
    return module + own, Step(kind, _settings(settings), tuple(names))


def _settings(text: str) -> dict[str, Any]:
    """The settings of an operation; those with a × are the shapes of its parameters, and are left out."""
    found = {}
    for part in re.split(r", (?=[a-z])", text):
        key, _, value = part.partition(" ")
        if key in ("filters", "weights") or not key:
            continue
        found[key] = value if value in WORDS else ast.literal_eval(value)  # of equal keys the setting comes last
    return found


def logits(name: str, variables: Mapping[str, tf.Variable], images: np.ndarray) -> np.ndarray:
    """Return the logits in inference: float64 [B,classes].

    Args:
        name: The name of the fingerprint.
        variables: The network's, by path.
        images: Preprocessed images [B,H,W,3].
    """
    return activations(name, variables, tf.constant(images, tf.float64))[head(name)].numpy()


def head(name: str) -> str:
    """Return the name of the operation that computes the logits."""
    return [step for step in read(name) if not step.startswith("auxiliary")][-1]


def activations(
    name: str,
    variables: Mapping[str, tf.Variable | tf.Tensor],
    images: tf.Tensor,
    seed: tuple[int, int] | None = None,
) -> dict[str, tf.Tensor]:
    """Return the output of each operation by its name, and the images as "images"; differentiable.

    Args:
        name: The name of the fingerprint.
        variables: The network's, by path.
        images: Preprocessed images, float64 [B,H,W,3].
        seed: What masks are drawn from, in training, with the batch's own moments and auxiliary heads; None for
            inference.
    """
    steps = read(name)
    values = {"images": images}
    own: dict[str, dict[str, tf.Tensor]] = {}
    for path, variable in variables.items():
        own.setdefault(path.rsplit("/", 1)[0], {})[path.rsplit("/", 1)[1]] = tf.cast(variable, tf.float64)
    for step_name in _needed(steps, head(name)) if seed is None else steps:
        step = steps[step_name]
        compute = OPERATIONS[step.kind]
        more = {}
        if seed is not None and step.kind in IN_TRAINING:
            compute, more = IN_TRAINING[step.kind], {"seed": (seed[0], seed[1] ^ zlib.crc32(step_name.encode()) & MOST)}
        inputs = (values[i] for i in step.inputs)
        values[step_name] = compute(*inputs, **step.settings, **more, own=own.get(step_name, {}))
    return values


def _needed(steps: Mapping[str, Step], head: str) -> list[str]:
    """The operations that `head` depends on, in order."""
    needed, left = {head}, [head]
    while left:
        new = [name for name in steps[left.pop()].inputs if name in steps and name not in needed]
        needed.update(new)
        left += new
    return [name for name in steps if name in needed]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _padded(x, padding, fill: float = 0.0):
    """(x with explicit padding added, the word for what is left to pad)."""
    if isinstance(padding, str):
        return x, padding
    return tf.pad(x, ((0, 0), *padding, (0, 0)), constant_values=fill), "VALID"


def _conv(x, *, stride, padding, dilation, groups, own, **_):
    x, word = _padded(x, padding)
    parts = zip(tf.split(x, groups, axis=-1), tf.split(own["filters"], groups, axis=-1), strict=True)
    if groups == x.shape[-1] > 1:  # depthwise: [kh,kw,1,C] → [kh,kw,C,1]
        filters = tf.transpose(own["filters"], (0, 1, 3, 2))
        y = tf.nn.depthwise_conv2d(x, filters, (1, *_pair(stride), 1), word, dilations=_pair(dilation))
    else:
        y = tf.concat([tf.nn.conv2d(p, f, _pair(stride), word, dilations=_pair(dilation)) for p, f in parts], axis=-1)
    return y + own["bias"] if "bias" in own else y


def _dense(x, *, own, **_):
    return tf.reshape(x, (x.shape[0], -1)) @ own["weights"] + own.get("bias", 0.0)


def _batch_norm(x, *, epsilon, own, **_):
    return own["scale"] * (x - own["mean"]) / tf.sqrt(own["variance"] + epsilon) + own["offset"]


def _batch_norm_in_training(x, *, epsilon, own, **_):
    mean, variance = tf.nn.moments(x, (0, 1, 2))
    return own["scale"] * (x - mean) / tf.sqrt(variance + epsilon) + own["offset"]


def _mask(shape, rate, seed):
    """0 with probability `rate`, else 1/(1 − rate)."""
    words = tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=tf.uint32, alg="philox")
    return tf.cast(tf.cast(words, tf.float64) >= rate * 2**32, tf.float64) / (1 - rate)


def _lrn(x, *, alpha, beta, bias, radius, **_):
    squares = tf.pad(x**2, ((0, 0), (0, 0), (0, 0), (radius, radius)))
    sums = tf.add_n([squares[..., j : j + x.shape[-1]] for j in range(2 * radius + 1)])
    return x / (bias + alpha * sums) ** beta


def _max_pool(x, *, padding, size, stride, **_):
    x, word = _padded(x, padding, -np.inf)
    return tf.nn.max_pool2d(x, _pair(size), _pair(stride), word)


def _average_pool(x, *, padding, size, stride, count_padding, **_):
    if count_padding:  # 3×3 with stride 1
        return tf.nn.avg_pool2d(tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), _pair(size), _pair(stride), "VALID")
    return tf.nn.avg_pool2d(x, _pair(size), _pair(stride), padding)


def _pad(x, *, margins, **_):
    (top, bottom), (left, right) = margins
    rows, columns = x.shape[1:3]
    x = x[:, max(-top, 0) : rows + min(bottom, 0), max(-left, 0) : columns + min(right, 0)]
    return tf.pad(x, ((0, 0), *((max(a, 0), max(b, 0)) for a, b in margins), (0, 0)))


def _zero_padded_shortcut(x, *, channels, stride, zeros, **_):
    more = channels - x.shape[-1]
    before = more // 2 if zeros == "both" else 0
    return tf.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (before, more - before)))


OPERATIONS: dict[str, Callable] = {
    "conv": _conv,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "relu": lambda x, **_: tf.nn.relu(x),
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": lambda x, **_: tf.reduce_mean(x, axis=(1, 2)),
    "dropout": lambda x, **_: x,
    "drop_path": lambda x, **_: x,
    "concatenate": lambda *xs, **_: tf.concat(xs, axis=-1),
    "residual_sum": lambda x, y, scale=1.0, **_: x + scale * y,
    "pad": _pad,
    "sigmoid": lambda x, **_: 1 / (1 + tf.exp(-x)),
    "scale_channels": lambda x, s, **_: x * s[:, None, None],
    "zero_padded_shortcut": _zero_padded_shortcut,
}
IN_TRAINING: dict[str, Callable] = {
    "batch_norm": _batch_norm_in_training,
    "dropout": lambda x, *, rate, seed, **_: x * _mask(x.shape, rate, seed),
    "drop_path": lambda x, *, rate, seed, **_: x * _mask((x.shape[0], 1, 1, 1), rate, seed),
}
