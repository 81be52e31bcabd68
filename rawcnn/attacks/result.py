"""The result of an attack: the images, and the network's predictions of them before and after.

Success is a property of the images that are returned: the network predicts them again after clipping. Images that the
network was wrong about from the start are counted separately, because no attack was needed there. An image for which
the network answers NaN has no prediction (−1): it is neither right nor a success.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rawcnn.attacks.common import NO_CLASS

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class AttackResult:
    """Arrays over the B images. A confidence is the softmax probability of the predicted class.

    Attributes:
        images: float32 [B,H,W,3] in [0,1], the attacked images.
        originals: float32 [B,H,W,3] in [0,1], the images before the attack.
        labels: int32 [B], the true classes.
        target: int32 [B], the requested classes; None for any but the label.
        predictions_before: int32 [B], the classes predicted for `originals`; −1 where the network answers NaN.
        predictions: int32 [B], the classes predicted for `images`; −1 where the network answers NaN.
        confidences_before: float32 [B], of `predictions_before`.
        confidences: float32 [B], of `predictions`.
        iterations: int32 [B], gradient steps spent on the image.
        queries: int32 [B], forward passes spent on the image.
    """

    images: np.ndarray = field(repr=False)
    originals: np.ndarray = field(repr=False)
    labels: np.ndarray
    target: np.ndarray | None
    predictions_before: np.ndarray
    predictions: np.ndarray
    confidences_before: np.ndarray
    confidences: np.ndarray
    iterations: np.ndarray
    queries: np.ndarray

    @property
    def success(self) -> np.ndarray:
        """bool [B]: the network predicts a class that is not the label or, targeted, is the target."""
        return succeeded(self.predictions, self.labels, self.target)

    @property
    def already_wrong(self) -> np.ndarray:
        """bool [B]: the prediction was wrong before the attack."""
        return self.predictions_before != self.labels

    @property
    def noise(self) -> np.ndarray:
        """[B,H,W,3]: the attacked images minus the original ones."""
        return self.images - self.originals

    def columns(self) -> dict[str, np.ndarray]:
        """A table with one row per image, for files and for `summarize`: everything except the pixels."""
        noise = np.abs(self.noise.reshape(len(self.labels), -1).astype(np.float64))
        return {
            "label": self.labels,
            "prediction_before": self.predictions_before,
            "prediction": self.predictions,
            "confidence_before": self.confidences_before,
            "confidence": self.confidences,
            "success": self.success,
            "already_wrong": self.already_wrong,
            "attempted": ~self.already_wrong & (True if self.target is None else self.labels != self.target),
            "iterations": self.iterations,
            "queries": self.queries,
            "l2": np.sqrt(np.sum(noise**2, axis=1)),
            "linf": np.max(noise, axis=1),
        }

    def summary(self) -> dict[str, object]:
        """The result as values for JSON; see `summarize`."""
        return summarize(self.columns())


def succeeded(predictions: np.ndarray, labels: np.ndarray, target: np.ndarray | None) -> np.ndarray:
    """bool [B]: the network predicts a class that is not the label or, targeted, is the target."""
    return (predictions != NO_CLASS) & (predictions != labels if target is None else predictions == target)


TYPES = {
    **dict.fromkeys(("label", "prediction_before", "prediction", "iterations", "queries"), np.int32),
    **dict.fromkeys(("confidence_before", "confidence"), np.float32),
    **dict.fromkeys(("success", "already_wrong", "attempted"), np.bool_),
    **dict.fromkeys(("l2", "linf"), np.float64),
}


def plain(columns: Columns) -> dict[str, list]:
    """A table of `AttackResult.columns` as lists, from which JSON keeps every digit; a NaN becomes None."""
    lists = {name: values.tolist() for name, values in columns.items()}
    return {name: [None if value != value else value for value in values] for name, values in lists.items()}


def columns_from(plain: Mapping[str, list]) -> dict[str, np.ndarray]:
    """The table from which `plain` was made."""
    return {name: np.array(values, TYPES[name]) for name, values in plain.items()}


def summarize(columns: Columns) -> dict[str, object]:
    """Summarize a table of `AttackResult.columns`, of one batch or of several joined ones.

    Args:
        columns: The table.

    Returns:
        Values for JSON. `success_rate` is over the `attempted` images: those that the network was right about and,
        targeted, that are not of the target's class. It is None if there are none. Norms are those of the noise over
        all images, in pixel values of [0,1].
    """
    attempted = columns["attempted"]
    return {
        "images": len(columns["label"]),
        "accuracy_before": float(np.mean(columns["prediction_before"] == columns["label"])),
        "accuracy_after": float(np.mean(columns["prediction"] == columns["label"])),
        "attempted": int(np.sum(attempted)),
        "success_rate": float(np.mean(columns["success"][attempted])) if attempted.any() else None,
        "confidence_before": _known(columns["confidence_before"]),
        "confidence_after": _known(columns["confidence"]),
        "iterations": float(np.mean(columns["iterations"])),
        "queries": float(np.mean(columns["queries"])),
        **{f"mean_{norm}": float(np.mean(columns[norm])) for norm in ("l2", "linf")},
        **{f"max_{norm}": float(np.max(columns[norm])) for norm in ("l2", "linf")},
    }


def _known(confidences: np.ndarray) -> float | None:
    """Their mean; None if any is NaN: an oracle returned labels only, or the network's logits are not finite."""
    return None if np.isnan(confidences).any() else float(np.mean(confidences))
