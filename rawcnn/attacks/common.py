"""What every attack does before and after: check what it is given, run compiled, judge what comes out.

An attack sees a network only as a function images → logits, so it takes a `Network` and any other callable alike.
The call is `network(images)`: never training, so batch normalisation stays with its averages and they stay as they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite
from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.execution import choose, compiled
from rawcnn.nn.folding import folded
from rawcnn.nn.network import Network, check_images

Model = Callable[[tf.Tensor], tf.Tensor]

_compiled: weakref.WeakKeyDictionary[Model, dict[tuple, Callable]] = weakref.WeakKeyDictionary()


def run(network: Model, function: Callable, *tensors: tf.Tensor, compile: str = "auto", **settings):
    """`function(network, *tensors, **settings)`, compiled as one piece.

    The compiled function is kept for as long as the network lives. It depends on what `settings` are, and on the
    tensors' shapes but for their first axis, the batch; never on values: hand over as a tensor what is to vary. No
    mixed graph in bfloat16: the batch shrinks in an attack's loop, and XLA would compile its islands for every size.
    """
    choice = choose(compile, getattr(network, "devices", ()))
    signature = tuple(tf.TensorSpec((None, *t.shape[1:]) if t.shape.rank else (), t.dtype) for t in tensors)
    try:
        kept = _compiled.setdefault(network, {})
    except TypeError:  # unhashable, or without weak references: nothing to remember it by
        return compiled(partial(function, network, **settings), choice, signature)(*tensors)
    key = (function, choice.mode, signature, *sorted(settings.items()))
    if key not in kept:
        alive = weakref.ref(network)  # what the dictionary holds must not keep its key alive
        kept[key] = compiled(partial(_call, function, alive, **settings), choice, signature)
    return kept[key](*tensors)


def _call(function: Callable, network: weakref.ref, *tensors: tf.Tensor, **settings):
    return function(network(), *tensors, **settings)


def logits_of(network: Model, images: tf.Tensor) -> tf.Tensor:
    """Images [B,H,W,3] → logits [B,classes], float32. ValueError if the network gives something else."""
    logits = tf.convert_to_tensor(network(images))
    if logits.shape.rank != 2:
        raise ValueError(f"the network gives {logits.dtype.name} {logits.shape}; expected logits [B,classes]")
    return tf.cast(logits, tf.float32)


def prepared(network: Model, precision: str = "float32") -> Model:
    """The same function for a loop: a Network's batch norms are folded into its convolutions before the loop begins.

    So its logits may differ by rounding: what is told of an image in the end, `Task.result` asks the network itself.
    """
    return folded(network, precision) if isinstance(network, Network) else network


def gain(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """What an attack makes large, [B]: the loss of the label; targeted, minus the loss of the target."""
    loss = kernels.cross_entropy(logits, goals)
    return -loss if targeted else loss


def fooled(logits: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tf.Tensor:
    """[B] bool: the prediction is not the label; targeted, is the target."""
    predictions = tf.argmax(logits, axis=1, output_type=tf.int32)
    return predictions == goals if targeted else predictions != goals


def ascent(network: Model, images: tf.Tensor, goals: tf.Tensor, targeted: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """(gradient of the gain to the images [B,H,W,3], logits [B,classes]).

    The gradient is that of the sum over the batch: an image's own does not depend on how many came with it, and a
    mean would make small ones smaller. Only images are watched: compiled, no gradient to a filter is computed.
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        logits = logits_of(network, images)
        total = tf.reduce_sum(gain(logits, goals, targeted))
    return slope(tape, total, images), logits


def slope(tape: tf.GradientTape, value: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """The tape's gradient of a network's answer; ValueError where it has none."""
    gradient = tape.gradient(value, source)
    if gradient is None:
        raise ValueError(
            "the network's answer has no gradient to its images; expected differentiable operations "
            "(one that reads levels, created with discretize, is attacked by logit_pga)"
        )
    return gradient


def judged(network: Model, images, compile: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """What the network says of images [B,H,W,3] in [0,1]: predictions int32 [B], confidences float32 [B]."""
    predictions, confidences, _ = run(network, _classify, check_range(check_images(images)), compile=compile)
    return predictions.numpy(), confidences.numpy()


def check_range(images: tf.Tensor) -> tf.Tensor:
    """The images; ValueError unless there are some, in [0,1]."""
    if images.shape[0] == 0:
        raise ValueError("images are an empty batch; expected one image or more")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images have values from {low:g} to {high:g}; expected RGB in [0,1]: the network normalises")
    return images


def _classify(network: Model, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Predictions [B], their softmax probabilities [B], the number of classes."""
    logits = logits_of(network, images)
    confidences = tf.reduce_max(kernels.softmax(logits), axis=1)
    return tf.argmax(logits, axis=1, output_type=tf.int32), confidences, tf.shape(logits)[1]


@dataclass(frozen=True)
class Task:
    """Images, what the network says of them, and where an attack is to take them."""

    network: Model
    images: tf.Tensor  # float32 [B,H,W,3] in [0,1]
    labels: np.ndarray  # int32 [B]
    target: np.ndarray | None  # int32 [B]
    predictions: np.ndarray  # int32 [B]
    confidences: np.ndarray  # float32 [B]
    classes: int
    compile: str

    @property
    def targeted(self) -> bool:
        return self.target is not None

    @property
    def count(self) -> int:
        return len(self.labels)

    @property
    def gathers(self) -> bool:
        """Can loops leave out the images that are finished? XLA wants shapes that it knows."""
        return choose(self.compile, getattr(self.network, "devices", ())).mode != "xla"

    @property
    def goals(self) -> tf.Tensor:
        """int32 [B]: the classes to reach, or the labels to leave."""
        return tf.constant(self.labels if self.target is None else self.target)

    def run(self, attack: Callable, *tensors: tf.Tensor, **settings):
        """`attack(network, images, goals, *tensors, targeted=…, **settings)`, compiled."""
        given = (self.images, self.goals, *tensors)
        return run(self.network, attack, *given, compile=self.compile, targeted=self.targeted, **settings)

    def only(self, rows: np.ndarray) -> Task:
        """The task of some of the images, bool [B]."""
        of = {name: getattr(self, name)[rows] for name in ("labels", "predictions", "confidences")}
        target = None if self.target is None else self.target[rows]
        return replace(self, images=tf.boolean_mask(self.images, rows), target=target, **of)

    def fooled_by(self, images: np.ndarray) -> np.ndarray:
        """Which of the images [B,H,W,3] of an attack fool the network: bool [B]."""
        predictions, _ = judged(self.network, images, self.compile)
        return predictions == self.target if self.targeted else predictions != self.labels

    def result(
        self, images: tf.Tensor, iterations, queries=None, kind: type[AttackResult] = AttackResult, **more
    ) -> Any:
        """Judge the images [B,H,W,3] that an attack made, in `iterations` gradient steps, one number or [B].

        `queries` are its forward passes, as many as gradients by default; `more` are further fields of the `kind`.
        """
        predictions, confidences, _ = run(self.network, _classify, tf.convert_to_tensor(images), compile=self.compile)
        iterations = np.broadcast_to(np.asarray(iterations, np.int32), self.labels.shape)
        queries = iterations if queries is None else np.broadcast_to(np.asarray(queries, np.int32), self.labels.shape)
        return kind(
            images=np.asarray(images),
            originals=self.images.numpy(),
            labels=self.labels,
            target=self.target,
            predictions_before=self.predictions,
            predictions=predictions.numpy(),
            confidences_before=self.confidences,
            confidences=confidences.numpy(),
            iterations=iterations,
            queries=queries,
            **more,
        )


def prepare(network: Model, images, labels, target=None, compile: str = "auto") -> Task:
    """Check what an attack is given, and predict. Raises ValueError with what is wrong.

    images [B,H,W,3] are RGB in [0,1], labels int [B], target None, one class or an int [B].
    """
    images = check_range(check_images(images))
    predictions, confidences, classes = run(network, _classify, images, compile=compile)
    labels = _classes("labels", labels, images.shape[0], int(classes))
    if target is not None:
        target = np.broadcast_to(target, labels.shape) if np.ndim(target) == 0 else target
        target = _classes("target", target, images.shape[0], int(classes))
    return Task(network, images, labels, target, predictions.numpy(), confidences.numpy(), int(classes), compile)


def _classes(what: str, numbers, count: int, classes: int) -> np.ndarray:
    """Class numbers as int32 [count]."""
    numbers = np.asarray(numbers)
    if numbers.shape != (count,) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"got {what} {numbers.dtype} {numbers.shape}; expected {count} class numbers, one an image")
    if numbers.min() < 0 or numbers.max() >= classes:
        wrong = numbers[(numbers < 0) | (numbers >= classes)][0]
        raise ValueError(f"got the class {wrong} in {what}; expected 0 to {classes - 1}: the network has {classes}")
    return numbers.astype(np.int32)


def distance(what: str, value, count: int, norm: str = "linf") -> tf.Tensor:
    """Distances in pixel values, one or [count], as float32 [count].

    ValueError unless they are finite, not negative, and in L∞ at most 1.
    """
    try:
        values = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {value!r}; expected a number, or one an image") from None
    if values.shape not in ((), (count,)):
        raise ValueError(f"{what} has shape {values.shape}; expected one number, or one for each of {count} images")
    good = np.isfinite(values) & (values >= 0) & ((values <= 1) | (norm == "l2"))
    if not good.all():
        expected = "0 to 1, the whole range of a pixel: 8 of 255 levels are 8/255 = .0314"
        wrong = float(values[~good].flat[0])
        raise ValueError(f"{what} is {wrong:g}; expected {expected if norm == 'linf' else '0 or more'}")
    return tf.constant(np.broadcast_to(values, (count,)), tf.float32)


def real(what: str, value: float, most: float = inf) -> tf.Tensor:
    """A number as a float32 tensor; ValueError unless it lies in 0 … `most` and is finite."""
    if not (isinstance(value, Real) and isfinite(value) and 0 <= value <= most):
        raise ValueError(f"{what} is {value!r}; expected a number, 0 {f'to {most:g}' if most < inf else 'or more'}")
    return tf.constant(value, tf.float32)


def whole(what: str, value: int, least: int) -> tf.Tensor:
    """An integer as an int32 tensor; ValueError unless whole, `least` or more, and within 31 bits."""
    if not isinstance(value, (int, np.integer)) or not least <= value < 2**31:
        raise ValueError(f"{what} is {value!r}; expected a whole number, {least} or more and below 2³¹")
    return tf.constant(value, tf.int32)
