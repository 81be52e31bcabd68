"""An attack's problem: checked images and labels before it, the network's verdict after it.

The network itself judges the attacked images, in its own precision and without folded batch norms, whatever the attack
computed with. `AttackResult.success` therefore holds for the images that are returned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_class_count, check_classes, check_network, check_range
from rawcnn.attacks.common import Classifier, logits_of, predicted
from rawcnn.attacks.result import AttackResult, succeeded
from rawcnn.attacks.runtime import run_compiled
from rawcnn.nn.execution import choose
from rawcnn.nn.network import check_images


@dataclass(frozen=True)
class Problem:
    """Images, the network's predictions of them, and the classes that an attack aims at."""

    network: Classifier
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
    def gather(self) -> bool:
        """Whether loops can remove finished images from the batch. XLA needs fixed shapes."""
        return choose(self.compile, getattr(self.network, "devices", ())).mode != "xla"

    @property
    def goals(self) -> tf.Tensor:
        """int32 [B]: the classes to reach, or the labels to leave."""
        return tf.constant(self.labels if self.target is None else self.target)

    def run(self, attack: Callable, *tensors, **settings):
        """`attack(network, images, goals, *tensors, targeted=…, **settings)`, compiled."""
        arguments = (self.images, self.goals, *tensors)
        return run_compiled(
            self.network, attack, *arguments, compile=self.compile, targeted=self.targeted, **settings
        )  # fmt: skip

    def only(self, rows: np.ndarray) -> Problem:
        """The problem of the images for which `rows`, bool [B], is true."""
        arrays = {name: getattr(self, name)[rows] for name in ("labels", "predictions", "confidences")}
        target = None if self.target is None else self.target[rows]
        return replace(self, images=tf.boolean_mask(self.images, rows), target=target, **arrays)

    def fooled_by(self, images: np.ndarray) -> np.ndarray:
        """bool [B]: which of the attacked images [B,H,W,3] fool the network."""
        predictions, _ = predict(self.network, images, self.compile)
        return succeeded(predictions, self.labels, self.target)

    def result(
        self, images: tf.Tensor, iterations, queries=None, result_type: type[AttackResult] = AttackResult, **fields
    ) -> Any:
        """Judge the attacked images [B,H,W,3] and return the result.

        `iterations` counts gradient steps and `queries` forward passes, one number or [B]; by default there are as many
        forward passes as steps. `fields` are further fields of the `result_type`.
        """
        predictions, confidences, _ = run_compiled(
            self.network, _classify, tf.convert_to_tensor(images), compile=self.compile
        )
        iterations = np.broadcast_to(np.asarray(iterations, np.int32), self.labels.shape)
        queries = iterations if queries is None else np.broadcast_to(np.asarray(queries, np.int32), self.labels.shape)
        return result_type(
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
            **fields,
        )


def make_problem(network: Classifier, images, labels, target=None, compile: str = "auto") -> Problem:
    """Check an attack's arguments and predict its images.

    Args:
        network: A `Network`, or any function images → logits.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        target: None, one class, or int [B].
        compile: One of `rawcnn.nn.execution.MODES`.

    Raises:
        ValueError: An argument is out of range or does not fit the network.
    """
    check_network(network)
    images = check_range(check_images(images))
    predictions, confidences, classes = run_compiled(network, _classify, images, compile=compile)
    answers, count = predictions.shape[0], images.shape[0]
    if answers != count:
        raise ValueError(f"the network gives {answers} answers for {count} images; expected one for each")
    check_class_count(int(classes))
    labels = check_classes("labels", labels, images.shape[0], int(classes))
    if target is not None:
        single = isinstance(target, (int, np.integer)) or getattr(target, "shape", None) == ()
        target = np.broadcast_to(target, labels.shape) if single else target
        target = check_classes("target", target, images.shape[0], int(classes))
    return Problem(network, images, labels, target, predictions.numpy(), confidences.numpy(), int(classes), compile)


def predict(network: Classifier, images, compile: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Images [B,H,W,3] in [0,1] → predictions int32 [B] and their softmax probabilities float32 [B]."""
    predictions, confidences, _ = run_compiled(network, _classify, check_range(check_images(images)), compile=compile)
    return predictions.numpy(), confidences.numpy()


def _classify(network: Classifier, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Predictions [B], their softmax probabilities [B], and the number of classes."""
    logits = logits_of(network, images)
    confidences = tf.reduce_max(kernels.softmax(logits), axis=1)
    confidences = tf.where(tf.math.is_finite(confidences), confidences, np.nan)  # XLA's maximum of NaN is −∞
    return predicted(logits), confidences, tf.shape(logits)[1]
