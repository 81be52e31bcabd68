"""The sections on FGSM and PGD: images with noise and the network's predictions, and accuracy against ε."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np

from rawcnn.attacks import AttackResult, fgsm, pgd
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.plots import themed as plots
from rawcnn.report.album import Album
from rawcnn.report.page import Block, Section, Sum, Sums, Table, Text

EPSILONS = tuple(round(0.02 * k, 2) for k in range(13))  # 0 … 0.24, for pixels in [0,1]
PGD_STEPS = 10


@dataclass(frozen=True)
class Series:
    """One attack on the same images at every ε of `epsilons`."""

    name: str
    epsilons: Sequence[float]
    results: Sequence[AttackResult]

    @property
    def accuracies(self) -> list[float]:
        return [float(np.mean(result.predictions == result.labels)) for result in self.results]

    @property
    def smallest(self) -> np.ndarray:
        """Index of the smallest ε at which each image is misclassified, or −1, [B]."""
        wrong = np.stack([result.predictions != result.labels for result in self.results])  # [ε,B]
        return np.where(wrong.any(axis=0), wrong.argmax(axis=0), -1)

    @property
    def median_smallest(self) -> float:
        """The median over the images of the smallest ε that succeeds. It is infinite if no ε fools half of them."""
        values = [self.epsilons[i] if i >= 0 else float("inf") for i in self.smallest]
        return median(values)

    def to_dict(self) -> dict[str, object]:
        rows = [{"epsilon": e, **r.summary()} for e, r in zip(self.epsilons, self.results, strict=True)]
        return {"attack": self.name, "median_smallest_epsilon": _finite(self.median_smallest), "rows": rows}


class AccuracyLine(Protocol):
    """A line of accuracies against ε."""

    @property
    def name(self) -> str: ...

    @property
    def epsilons(self) -> Sequence[float]: ...

    @property
    def accuracies(self) -> list[float]: ...

    @property
    def median_smallest(self) -> float: ...


def attack_series(
    network: Network, images: np.ndarray, labels: np.ndarray, *, seed: int, progress: Progress
) -> list[Series]:
    """Attack the images with FGSM and PGD (10 steps of ε/4 from a random start) at every ε."""
    fast, slow = [], []
    for number, epsilon in enumerate(EPSILONS):
        fast.append(fgsm(network, images, labels, epsilon=epsilon))
        slow.append(pgd(network, images, labels, epsilon=epsilon, step=epsilon / 4, steps=PGD_STEPS, seed=seed))
        progress(number + 1, len(EPSILONS))
    return [Series("FGSM", EPSILONS, fast), Series("PGD", EPSILONS, slow)]


def choose(series: Sequence[Series], count: int = 4) -> list[int]:
    """Choose images of different classes: of each class the first correct image that every attack can fool."""
    fooled = np.all([s.smallest > 0 for s in series], axis=0)
    labels = series[0].results[0].labels
    first = [int(np.flatnonzero(fooled & (labels == k))[0]) for k in sorted(set(labels[fooled].tolist()))]
    return [first[i] for i in np.linspace(0, len(first) - 1, min(count, len(first)), dtype=int)]


def fast_gradient_sign(series: Series, chosen: Sequence[int], labels: Sequence[str], album: Album) -> Section:
    """Return the section on FGSM, with sums like those of Goodfellow et al.'s panda."""
    return Section(
        "The fast gradient sign method",
        (
            Text(
                "The network reads the image x with its label y. J is the cross-entropy. Its gradient is computed for "
                "the image instead of the weights. Every pixel moves by ε in the direction that increases the loss: "
                "x + ε·sign(∇ₓJ), clipped to black and white (Goodfellow et al. 2015). ε is the smallest of "
                f"{len(series.epsilons)} values, {series.epsilons[1]:g} apart, at which the network misclassifies the "
                "image."
            ),
            Sums(
                tuple(sum_of(series, image, labels, album, "sign(∇ₓJ)") for image in chosen),
                "For some classes, the first correctly classified test image that both attacks can fool. Noise is "
                "shown from −1 (dark) to 1 (bright). A gray pixel does not change, either because its gradient is zero "
                "or because black cannot become darker. The noise has colors because the network reads RGB images.",
            ),
        ),
    )


def projected_gradient(series: Series, chosen: Sequence[int], labels: Sequence[str], album: Album) -> Section:
    """Return the section on Madry et al.'s attack, with the same images."""
    return Section(
        "Projected gradient descent",
        (
            Text(
                f"PGD takes {PGD_STEPS} steps of ε/4 from a random start, and after each step projects the image back "
                "to within ε of the original (Madry et al. 2018). It computes a gradient in each step, FGSM only one."
            ),
            Sums(
                tuple(sum_of(series, image, labels, album, "noise / ε") for image in chosen),
                "The same images, each at the smallest ε at which this attack succeeds.",
            ),
        ),
    )


def strength(series: Sequence[AccuracyLine], album: Album) -> Section:
    """Return the section on accuracy against ε for all attacks."""
    plot = album.plot(
        "epsilon",
        plots.accuracy_against_epsilon([(s.name, s.epsilons, s.accuracies) for s in series]),
        (5.3, 2.9),
        alt="Accuracy falls with ε for each attack; "
        + ", ".join(f"{s.name} ends at {s.accuracies[-1]:.0%}" for s in series),
        caption="Accuracy on attacked test images. ε = 0 is the accuracy without an attack.",
    )
    shown = [number for number, epsilon in enumerate(series[0].epsilons) if number % 3 == 0]
    rows = tuple(
        (
            s.name,
            *(f"{s.accuracies[number]:.1%}" for number in shown),
            f"{s.median_smallest:g}" if np.isfinite(s.median_smallest) else "—",
        )
        for s in series
    )
    columns = ("accuracy at ε =", *(f"{series[0].epsilons[number]:g}" for number in shown), "median smallest ε")
    blocks: tuple[Block, ...] = (
        Text(
            "An attack may change each color of a pixel by at most ε. All attacks except the black box use the "
            "network's own gradients. An ε of 0.1 is a change of at most 25 of 255 gray levels, which is visible on "
            "images of 8×8 pixels. The lecture's panda has 784 times as many pixels and needs an ε of 0.007."
        ),
        plot,
        Table(columns, rows, "Images that are misclassified without an attack count as fooled at ε = 0."),
    )
    return Section("Accuracy against ε", blocks)


def sum_of(series: Series, image: int, labels: Sequence[str], album: Album, noise: str) -> Sum:
    """Return the sum of one image and its noise, at the smallest ε that succeeds."""
    number = int(series.smallest[image])
    epsilon, result = series.epsilons[number], series.results[number]
    is_, reads = labels[result.predictions_before[image]], labels[result.predictions[image]]
    name = f"{series.name.split(',')[0].replace(' ', '-').lower()}-{image}"
    return Sum(
        album.tile(
            f"{name}-image",
            result.originals[image],
            alt=f"A handwritten {is_}",
            label=f"“{is_}”",
            detail=f"{result.confidences_before[image]:.1%} confidence",
        ),
        f"{epsilon:.2f}",
        album.tile(f"{name}-noise", 0.5 + result.noise[image] / epsilon / 2, alt="The noise", label=noise),
        album.tile(
            f"{name}-result",
            result.images[image],
            alt=f"The {is_} with the noise, read as {reads}",
            label=f"“{reads}”",
            detail=f"{result.confidences[image]:.1%} confidence",
        ),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
