"""Measure how time grows with the batch, the size of the images, the depth of the network and the steps of an attack.

A series is one line of a plot with logarithmic axes. Its exponent p is fitted to time per image ∝ xᵖ. Along the batch,
p = −1 if a larger batch takes no longer, and p = 0 if the machine is fully used. The points of a series are timed in
interleaved rounds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.results import append
from benchmarks.harness.timing import Run, StepProgress, interleaved, timed
from benchmarks.races.networks import randomize_norms
from rawcnn.nn.arguments import Size, image_size
from rawcnn.nn.execution import choose
from rawcnn.nn.folding import program
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, make_step

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STEPS = (1, 2, 5, 10, 20, 50, 100)
NO_EFFECT = 1e-6  # an ε too small to change a prediction, so that all steps are taken


@dataclass(frozen=True)
class Series:
    """One job over a range of one quantity."""

    along: str  # the quantity: "batch", "size", "depth" or "steps"
    job: str
    model: str  # along the depth: the models
    precision: str
    rounds: int
    points: tuple[float, ...]  # values of the quantity: batch, side in pixels, MACs per image, steps
    names: tuple[str, ...]  # labels of the points
    images: tuple[int, ...]  # images per call
    seconds: tuple[float, ...]  # medians of a complete call

    @property
    def seconds_per_image(self) -> tuple[float, ...]:
        """The seconds of a call divided by its images, per point."""
        return tuple(s / n for s, n in zip(self.seconds, self.images, strict=True))

    @property
    def exponent(self) -> float:
        """p of seconds per image ∝ xᵖ, by least squares of the logarithms."""
        return float(np.polyfit(np.log(self.points), np.log(self.seconds_per_image), 1)[0])

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        settings = ("along", "job", "model", "precision", "rounds")
        figures = {key: value for key, value in asdict(self).items() if key not in settings}
        return {
            "settings": {f"growth_{key}" if key == "along" else key: getattr(self, key) for key in settings},
            "figures": {**figures, "seconds_an_image": self.seconds_per_image, "exponent": self.exponent},
        }


def inference(model: str, batch: int, size: Size, precision: str) -> Run:
    """Return a call of `rawcnn.program`: images → logits."""
    network = rawcnn.create(model, size=size, precision=precision)
    randomize_norms(network, 0)
    run, images = program(network), _images(batch, size)
    return lambda: run(images).numpy()


def training(model: str, batch: int, size: Size, precision: str) -> Run:
    """Return a call of one step of `rawcnn train`."""
    network = rawcnn.create(model, size=size, precision=precision)
    recipe = Recipe("growth", "ours", batch=batch, epochs=1, rate=1e-4, momentum=0.9)
    choice = choose("auto", (), precision)
    step = make_step(network, recipe, State.begin(network, recipe), choice)
    images, labels = _images(batch, size), tf.zeros(batch, tf.int32)
    return lambda: step(images, labels, tf.constant([0, 0]), tf.constant(1e-4))["loss"].numpy()


def attack(model: str, batch: int, steps: int) -> Run:
    """Return a call of PGD with an ε too small to change a prediction, so that all images take all steps."""
    network = rawcnn.create(model)
    randomize_norms(network, 0)
    images = _images(batch, network.image_size)
    labels = np.argmax(network(images), axis=1).astype(np.int32)
    return lambda: rawcnn.attacks.pgd(network, images, labels, epsilon=NO_EFFECT, steps=steps).images


def _images(batch: int, size: Size) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((batch, *image_size(size), 3), np.float32))


JOBS: Mapping[str, Callable[[str, int, Size, str], Run]] = {"inference": inference, "training": training}
Point = tuple[str, float, int, Callable[[], Run]]  # label, x, images per call, function that creates the call


def along_batch(job: str, model: str, precision: str, batches: Sequence[int], size: Size) -> list[Point]:
    return [(str(b), b, b, partial(JOBS[job], model, b, size, precision)) for b in batches]


def along_size(job: str, model: str, precision: str, sizes: Sequence[int], batch: int) -> list[Point]:
    return [(f"{s}", s, batch, partial(JOBS[job], model, batch, s, precision)) for s in sizes]


def along_depth(job: str, models: Sequence[str], precision: str, batch: int, size: Size) -> list[Point]:
    macs = {m: rawcnn.profile(m, size=size).totals["macs"] for m in models}
    return [(m, macs[m], batch, partial(JOBS[job], m, batch, size, precision)) for m in models]


def along_steps(model: str, steps: Sequence[int], batch: int) -> list[Point]:
    return [(str(n), n, batch, partial(attack, model, batch, n)) for n in steps]


def measure(points: Sequence[Point], rounds: int, report: Callable[[str], None], **metadata: str) -> Series:
    """Time the points, each after a warm-up call; `metadata` are the first fields of the series."""
    runs: dict[str, Run] = {}
    for name, _, _, make in points:
        runs[name] = make()
        timed(runs[name])
        report(f"{name} is ready")
    seconds = interleaved(runs, rounds, lambda n: report(f"round {n + 1} of {rounds}"))
    return Series(
        **metadata,
        rounds=rounds,
        points=tuple(x for _, x, _, _ in points),
        names=tuple(name for name, _, _, _ in points),
        images=tuple(images for _, _, images, _ in points),
        seconds=tuple(float(np.median(seconds[name])) for name, _, _, _ in points),
    )


def grow(
    precision: str = "float32",
    *,
    rounds: int = 5,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    sizes: Sequence[int] = (128, 192, 256, 320, 384, 448),
    models: Sequence[str] = DEPTHS,
    steps: Sequence[int] = STEPS,
    batch: int = 8,
    size: Size = 224,
    attacked: str = "cifar_resnet20",
    file: Path | None = None,
    command: str = "benchmarks.grow",
    progress: StepProgress | None = None,
) -> list[Series]:
    """Measure inference and training steps along batch, size and depth, and PGD along its steps.

    Args:
        precision: "float32" or "bfloat16"; PGD is measured only with float32.
        rounds: Number of timed rounds per series.
        batches: Batches of the series along the batch.
        sizes: Sides of the images, in pixels, of the series along the size.
        models: Models of increasing depth; the first one is used along batch and size.
        steps: Numbers of steps of PGD.
        batch: Images per call along size and depth; PGD attacks 8 times as many.
        size: Side of the images in pixels, or (height, width), along batch and depth.
        attacked: The model that PGD attacks.
        file: A result file; each series is appended as soon as it is measured.
        command: The command line that is recorded with the results.
        progress: Called with (description, series done, number of series).
    """
    network = models[0]
    plans: list[tuple[dict[str, str], list[Point]]] = []
    for job in JOBS:
        shared = {"job": job, "precision": precision}
        depths = ", ".join(models)
        plans += [
            ({"along": "batch", "model": network, **shared}, along_batch(job, network, precision, batches, size)),
            ({"along": "size", "model": network, **shared}, along_size(job, network, precision, sizes, batch)),
            ({"along": "depth", "model": depths, **shared}, along_depth(job, models, precision, batch, size)),
        ]
    if precision == "float32":  # images and gradients of an attack are float32; its bfloat16 is a separate setting
        shared = {"along": "steps", "model": attacked, "job": "PGD", "precision": precision}
        plans.append((shared, along_steps(attacked, steps, 8 * batch)))
    results = []
    for number, (metadata, points) in enumerate(plans):
        series = f"{metadata['job']} along {metadata['along']}"
        report = partial(_report, progress, series, number, len(plans))
        results.append(measure(points, rounds, report, **metadata))
        if file:
            append(results[-1:], command, file)
        gc.collect()
    return results


def _report(progress: StepProgress | None, series: str, number: int, total: int, what: str) -> None:
    if progress:
        progress(f"{series}: {what}", number, total)
