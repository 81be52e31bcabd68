"""Whether contestants attacked equally: the images of each are compared before the timing.

- The images lie in [0,1] and within ε.
- No opponent's success rate, measured by rawcnn's network in float32, is above rawcnn's.
- A single step of PGD changes all pixels equally.
- DeepFool's changes are not longer than those of the opponents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.harness.agreement import Disagreement
from benchmarks.races.attack_peers import OPPONENTS, AttackTask, Run
from rawcnn.attacks import deepfool, pgd, spatial
from rawcnn.attacks.problem import predict

OURS = ("rawcnn", "rawcnn bfloat16")  # the first is the reference
NO_EFFECT = 1e-6  # an ε too small to change a prediction: 1/4000 of a level of 255
FLIPPED = 5e-3  # share of the pixels that may change in the other direction, with gradients within rounding of zero
LONGER = 1.05  # largest ratio of DeepFool's mean and median distances to an opponent's
# Share of the images by which an opponent's success may be higher. The grids differ slightly: foolbox rotates the frame
# of the translation, and ART resamples in another way.
FEWER = {"pgd": 0.0, "deepfool": 0.0, "grid": 0.05}


def ours(task: AttackTask, kind: str, name: str) -> Run:
    """Return the call of rawcnn's attack."""
    extra: dict[str, Any] = {"precision": "bfloat16" if name == OURS[1] else "float32"}
    extra |= {"random_start": False} if kind == "pgd" else {}
    attacks: dict[str, Callable[..., Any]] = {"pgd": pgd, "deepfool": deepfool, "grid": spatial}
    return lambda: attacks[kind](task.network, task.images, task.labels, **task.settings, **extra).images


def attack_of(task: AttackTask, kind: str, name: str) -> Run:
    """Return the call of a contestant's attack."""
    return ours(task, kind, name) if name in OURS else OPPONENTS[kind][name](task, name)


@dataclass
class Judge:
    """Compares the images of all contestants by the network's predictions in float32."""

    task: AttackTask
    kind: str  # a key of OPPONENTS
    success: dict[str, float] = field(default_factory=dict)
    l2: dict[str, tuple[float, float]] = field(default_factory=dict)
    step: np.ndarray | None = None  # rawcnn's images after one step of PGD

    def measure(self, name: str, images: np.ndarray) -> None:
        """Record success and lengths of the changes. Raise Disagreement for images outside [0,1] or beyond ε."""
        task = self.task
        if images.shape != task.images.shape or not (images.min() >= 0 and images.max() <= 1):
            raise Disagreement(f"{name} made no images: {images.shape}, from {images.min():g} to {images.max():g}")
        change = (images - task.images).reshape(len(images), -1).astype(np.float64)
        epsilon = task.settings.get("epsilon", 1.0)
        if np.abs(change).max() > epsilon + 1e-6:
            raise Disagreement(f"{name} changed a pixel by {np.abs(change).max():g}; ε is {epsilon:g}")
        lengths = np.linalg.norm(change, axis=1)
        self.success[name] = float(np.mean(predict(task.network, images)[0] != task.labels))
        self.l2[name] = float(np.mean(lengths)), float(np.median(lengths))

    def compare_step(self, name: str) -> float | None:
        """Return the share of pixels that differ from rawcnn's after one step of PGD.

        None for other attacks, for bfloat16 and for the ε without effect. Raise Disagreement if the share is too large.
        """
        s = self.task.settings
        if self.kind != "pgd" or name == OURS[1] or s["epsilon"] == NO_EFFECT:
            return None
        images = attack_of(self.task.with_settings(steps=1), self.kind, name)()
        self.step = images if self.step is None else self.step
        share = float(np.mean(np.abs(images - self.step) > s["step"] / 100))
        if not share < FLIPPED:
            raise Disagreement(f"one step of {name} differs from that of {OURS[0]} in {share:.2%} of the pixels")
        return share

    def decide(self) -> None:
        """Raise Disagreement if an opponent has more success than rawcnn, or smaller changes with DeepFool."""
        raw = [name for name in self.success if name in OURS]
        opponents = [name for name in self.success if name not in OURS]
        if self.task.settings.get("epsilon") == NO_EFFECT and any(self.success.values()):
            raise Disagreement(f"ε of {NO_EFFECT:g} fools the network; take other images: {self.success}")
        for a in raw:
            for b in opponents:
                if self.success[a] < self.success[b] - FEWER[self.kind]:
                    raise Disagreement(f"{a} fools {self.success[a]:.2%} of the images, {b} {self.success[b]:.2%}")
                if self.kind == "deepfool" and any(x > LONGER * y for x, y in zip(self.l2[a], self.l2[b], strict=True)):
                    raise Disagreement(f"mean and median L2 of {a} are {self.l2[a]}, of {b} {self.l2[b]}")
