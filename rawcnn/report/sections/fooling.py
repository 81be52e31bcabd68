"""The sections on further attacks: evolved images, DeepFool, a black box, a patch, rotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from rawcnn.attacks import (
    AttackResult,
    FoolingImages,
    Patch,
    SpatialResult,
    Substitute,
    deepfool,
    evolve,
    make_patch,
    make_substitute,
    mi_fgsm,
    patch,
    spatial,
    substitute,
)
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.page import Gallery, Section, Strip, Strips, Sum, Sums, Table, Text
from rawcnn.report.sections.adversarial import EPSILONS, Series
from rawcnn.visualize.pictures import enlarge, scale_to

GENERATIONS = {"direct": 200, "cppn": 150}
SEEDS = 100  # test images that the substitute's training begins with; the other test images are attacked
PATCH_STEPS = 300
AREAS = (0.05, 0.1, 0.2, 0.3)  # shares of the image that the patch covers
TARGET = 3  # class of the patch
ROTATION, TRANSLATION = 30.0, 1.0  # degrees, and pixels: an eighth of an 8×8 image
GRID_IMAGES = 64
SHOWN = 6  # images in a row
SIDE = 96  # pixels: pictures in a strip are enlarged to about this


@dataclass(frozen=True)
class Distances:
    """An attack that finds the distance of each image by itself, as a line of accuracies like those of a Series."""

    name: str
    epsilons: Sequence[float]
    result: AttackResult

    @property
    def needed(self) -> np.ndarray:
        """Largest change of a pixel for each image: 0 if it was wrong before, ∞ if the attack fails, [B]."""
        found = np.where(self.result.success, self.result.columns()["linf"], np.inf)
        return np.where(self.result.already_wrong, 0.0, found)

    @property
    def accuracies(self) -> list[float]:
        return [float(np.mean(self.needed > epsilon)) for epsilon in self.epsilons]

    @property
    def median_smallest(self) -> float:
        return round(float(np.median(self.needed)), 3)


@dataclass(frozen=True)
class Fooled:
    """The results of all attacks except FGSM and PGD."""

    evolved: dict[str, FoolingImages]
    near: AttackResult  # DeepFool, L2
    lines: tuple[Distances | Series, ...]  # accuracy against ε
    substitute: Substitute
    transferred: Series
    patch: Patch
    patched: dict[float, AttackResult]
    turned: dict[str, SpatialResult]

    def to_dict(self) -> dict[str, object]:
        return {
            "evolved": {name: found.summary() for name, found in self.evolved.items()},
            "deepfool": self.near.summary(),
            "lines": {line.name: line.accuracies for line in self.lines},
            "substitute": {"label_queries": self.substitute.queries, "rounds": self.substitute.rounds},
            "transfer": self.transferred.to_dict(),
            "patch": {str(area): result.summary()["success_rate"] for area, result in self.patched.items()},
            "spatial": {name: result.summary() for name, result in self.turned.items()},
        }


def fool(
    network: Network, training: np.ndarray, images: np.ndarray, labels: np.ndarray, *, seed: int,
    progress: Progress,
) -> Fooled:  # fmt: skip
    """Run every other attack of the lecture on gray test images [N,H,W,3]."""
    work = len(GENERATIONS) + 6

    def done(number: int) -> None:
        progress(number, work)

    evolved = {}
    for number, (encoding, generations) in enumerate(GENERATIONS.items()):
        evolved[encoding] = evolve(network, encoding=encoding, generations=generations, grey=True, seed=seed)
        done(number + 1)
    near, flat = (deepfool(network, images, labels, norm=norm) for norm in ("l2", "linf"))
    done(3)
    momentum = Series("MI-FGSM", EPSILONS, [mi_fgsm(network, images, labels, epsilon=e) for e in EPSILONS])
    done(4)
    made = make_substitute(network, images[:SEEDS], classes=network.classes, seed=seed)
    done(5)
    others = images[SEEDS:], labels[SEEDS:]
    through = partial(substitute, network, *others, substitute=made)
    transferred = Series("black box", EPSILONS, [through(epsilon=epsilon) for epsilon in EPSILONS])
    done(6)
    sticker = make_patch(network, training, target=TARGET, steps=PATCH_STEPS, scale=(0.3, 0.8), seed=seed)
    patched = {area: patch(network, images, labels, patch=sticker, epsilon=area, seed=seed) for area in AREAS}
    done(7)
    turned = {}
    turn = partial(spatial, network, rotation=ROTATION, translation=TRANSLATION, seed=seed)
    for name, trials in {"one at random": 1, "worst of 10": 10}.items():
        turned[name] = turn(images, labels, method="worst", trials=trials)
    turned["worst of the grid"] = turn(images[:GRID_IMAGES], labels[:GRID_IMAGES])
    done(8)
    lines = momentum, Distances("DeepFool, L∞", EPSILONS, flat), transferred
    return Fooled(evolved, near, lines, made, transferred, sticker, patched, turned)


def unrecognizable(found: Fooled, labels: Sequence[str], album: Album) -> Section:
    """Return the section on Nguyen et al.'s evolved images."""
    strips = []
    meanings = {"direct": "a value for each pixel", "cppn": "drawn by small graphs of sines, Gaussians and lines"}
    for encoding, images in found.evolved.items():
        pictures = [enlarge(image, scale_to(image, SIDE)) for image in images.images]
        tile = album.strip(f"evolved-{encoding}", pictures, alt=f"Ten evolved images, {meanings[encoding]}")
        confidence = f"median confidence {np.median(images.confidences):.1%}"
        detail = f"{len(images.history)} generations, {confidence}"
        strips.append(Strip(f"{encoding}: {meanings[encoding]}", detail, tile))
    names = ", ".join(f"“{label}”" for label in labels)
    return Section(
        "Unrecognizable images",
        (
            Text(
                "MAP-Elites keeps one champion for each class (Nguyen et al. 2015). Children are slightly changed "
                "champions. A child replaces the champion of a class if the network is more confident of it. From left "
                f"to right are the champions of {names}."
            ),
            Strips(tuple(strips)),
        ),
    )


def nearest_boundary(found: Fooled, chosen: Sequence[int], labels: Sequence[str], album: Album) -> Section:
    """Return the section on DeepFool, with the same images."""
    result, sums = found.near, []
    norms = result.columns()["l2"]
    for image in chosen:
        is_, reads = labels[result.predictions_before[image]], labels[result.predictions[image]]
        times = 0.5 / max(float(np.abs(result.noise[image]).max()), 1e-9)
        sums.append(
            Sum(
                album.tile(f"deepfool-{image}-image", result.originals[image], alt=f"A {is_}", label=f"“{is_}”"),
                f"1/{times:.1f}",
                album.tile(
                    f"deepfool-{image}-noise", 0.5 + times * result.noise[image], alt="The noise", label="noise",
                    detail=f"L2 norm {norms[image]:.2f}",
                ),
                album.tile(
                    f"deepfool-{image}-result", result.images[image], alt=f"The {is_}, read as {reads}",
                    label=f"“{reads}”", detail=f"{result.confidences[image]:.1%} confidence",
                ),
            )
        )  # fmt: skip
    known = ~result.already_wrong
    lengths = np.linalg.norm(result.originals.reshape(len(norms), -1), axis=1)
    share = np.mean(norms[known] / lengths[known])  # ρ_adv
    return Section(
        "DeepFool",
        (
            Text(
                "DeepFool steps to the nearest decision boundary of the linearized network, and repeats this until the "
                "prediction changes (Moosavi-Dezfooli et al. 2016). It takes "
                f"{np.mean(result.iterations[known]):.1f} steps on average. The norm of the noise is {share:.3f} of "
                "the image's norm on average."
            ),
            Sums(tuple(sums), "The noise that this attack finds, enlarged by the inverse of the factor before it."),
        ),
    )


def black_box(found: Fooled) -> Section:
    """Return the section on the black-box attack: how the substitute learned, and how well its images transfer."""
    series, made = found.transferred, found.substitute
    rows = tuple(
        (f"{epsilon:g}", f"{accuracy:.1%}", f"{1 - accuracy:.1%}")
        for number, (epsilon, accuracy) in enumerate(zip(series.epsilons, series.accuracies, strict=True))
        if number % 3 == 0
    )
    return Section(
        "A black box",
        (
            Text(
                "The attacker knows only the labels that the network predicts, no gradients and no confidences. A "
                f"small substitute network learns these labels (Papernot et al. 2017). It begins with {SEEDS} images "
                f"and doubles them {len(made.rounds)} times, by steps along which its own prediction changes most. "
                f"The labels of the new images are requested from the network, {made.queries:,} in all. FGSM "
                "attacks the substitute, and the network that was never seen classifies these images."
            ),
            Table(
                ("ε", "accuracy of the black box", "misclassified"),
                rows,
                f"{len(series.results[0].labels)} test images that were not used to train the substitute.",
            ),
        ),
    )


def sticker(found: Fooled, labels: Sequence[str], album: Album) -> Section:
    """Return the section on the patch: attacked images, and success against the patch's area."""
    area = AREAS[-1]
    result = found.patched[area]
    fooled = np.flatnonzero(result.success & (result.labels != TARGET))[:SHOWN]
    pixels = found.patch.printable.astype(np.float32) / 255
    tiles = [
        album.tile("patch", pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:], alt="The patch", label="the patch")
    ]
    tiles += [
        album.tile(
            f"patched-{k}", result.images[k], alt=f"A {labels[result.labels[k]]} under the patch",
            label=f"“{labels[result.predictions[k]]}”", detail=f"{result.confidences[k]:.1%} confidence",
        )
        for k in fooled
    ]  # fmt: skip
    rates = [result.summary()["success_rate"] for result in found.patched.values()]
    row = ("success", *("—" if rate is None else f"{rate:.1%}" for rate in rates))
    return Section(
        "An adversarial patch",
        (
            Text(
                "One round patch is optimized for all images, so that the network classifies any digit as "
                f"“{labels[TARGET]}”, at any position (Brown et al. 2017). It maximizes the expected log-probability "
                "of this class over images, positions, sizes and angles. 8×8 pixels leave little room for it."
            ),
            Gallery(tuple(tiles), f"Images of other classes under a patch that covers {area:.0%} of their area."),
            Table(
                ("area", *(f"{area:.0%}" for area in found.patched)),
                (row,),
                "Success on test images of other classes that are classified correctly without the patch.",
            ),
        ),
    )


def turned(found: Fooled, labels: Sequence[str], album: Album) -> Section:
    """Return the section on rotations and translations that succeed."""
    worst = found.turned["worst of 10"]
    places = np.flatnonzero(worst.success & ~worst.already_wrong)[:SHOWN]
    tiles = []
    for k in places:
        angle, right, down = worst.transformations[k]
        tiles += [
            album.tile(
                f"turned-{k}", worst.images[k], alt=f"A {labels[worst.labels[k]]}, turned and moved",
                label=f"“{labels[worst.labels[k]]}” read as “{labels[worst.predictions[k]]}”",
                detail=f"{angle:+.0f}°, {right:+.1f}, {down:+.1f} px",
            )
        ]  # fmt: skip
    before = np.mean(worst.predictions_before == worst.labels)
    rows = [("none", f"{before:.1%}", len(worst.labels))]
    rows += [
        (name, f"{result.summary()['accuracy_after']:.1%}", len(result.labels)) for name, result in found.turned.items()
    ]
    return Section(
        "Rotations and translations",
        (
            Text(
                f"This attack adds no noise. It rotates images by up to {ROTATION:g}° and moves them by up to "
                f"{TRANSLATION:g} pixel, an eighth of the image (Engstrom et al. 2019). The grid tries 31 angles and "
                "5 × 5 translations, and keeps the worst."
            ),
            Gallery(
                tuple(tiles),
                "The worst of ten random transformations: degrees counterclockwise, pixels to the right and down.",
            ),
            Table(
                ("transformation", "accuracy", "images"),
                tuple(rows),
                "Accuracy under transformations. The training images were shifted but not rotated.",
            ),
        ),
    )
