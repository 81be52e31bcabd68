"""How time grows: with the batch, the side of the images, the depth of the network, the steps of an attack.

Each series is one line of a plot on logarithmic axes, and the exponent p of an image's time ∝ xᵖ that a straight line
through all its points has: along the batch −1 would be a machine that takes no longer for more images, 0 one that is
full. The points of a series are measured in turn, round by round.
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
from benchmarks.harness.timing import Progress, Run, interleaved, timed
from benchmarks.races.networks import train_in_appearance
from rawcnn.nn.execution import choose
from rawcnn.nn.folding import program
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, make_step

DEPTHS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STEPS = (1, 2, 5, 10, 20, 50, 100)
ENDLESS = 1e-6  # of an ε that fools nobody: then all steps are taken


@dataclass(frozen=True)
class Series:
    """One job over a range of one thing. Seconds are medians of a whole call."""

    along: str  # "batch", "size", "depth", "steps"
    job: str
    model: str  # or of which depths
    precision: str
    rounds: int
    points: tuple[float, ...]  # batch, side in pixels, MACs of an image, steps
    names: tuple[str, ...]  # of the points, as they are read
    images: tuple[int, ...]  # of a call
    seconds: tuple[float, ...]

    @property
    def an_image(self) -> tuple[float, ...]:
        """Seconds of a call over its images."""
        return tuple(s / n for s, n in zip(self.seconds, self.images, strict=True))

    @property
    def exponent(self) -> float:
        """p of seconds of an image ∝ xᵖ, by least squares of the logarithms."""
        return float(np.polyfit(np.log(self.points), np.log(self.an_image), 1)[0])

    def to_json(self) -> dict[str, object]:
        """Plain numbers: settings and figures."""
        settings = ("along", "job", "model", "precision", "rounds")
        figures = {key: value for key, value in asdict(self).items() if key not in settings}
        return {
            "settings": {f"growth_{key}" if key == "along" else key: getattr(self, key) for key in settings},
            "figures": {**figures, "seconds_an_image": self.an_image, "exponent": self.exponent},
        }


def inference(model: str, batch: int, size: int, precision: str) -> Run:
    """Images → logits, as `rawcnn.program` has it."""
    network = rawcnn.create(model, size=size, precision=precision)
    train_in_appearance(network, 0)
    run, images = program(network), _images(batch, size)
    return lambda: run(images).numpy()


def training(model: str, batch: int, size: int, precision: str) -> Run:
    """One step of `rawcnn train`."""
    network = rawcnn.create(model, size=size, precision=precision)
    recipe = Recipe("growth", "ours", batch=batch, epochs=1, rate=1e-4, momentum=0.9)
    choice = choose("auto", (), precision)
    step = make_step(network, recipe, State.begin(network, recipe), choice)
    images, labels = _images(batch, size), tf.zeros(batch, tf.int32)
    return lambda: step(images, labels, tf.constant([0, 0]), tf.constant(1e-4))["loss"].numpy()


def attack(model: str, batch: int, steps: int) -> Run:
    """PGD whose ε fools nobody, so that all steps are taken by all images."""
    network = rawcnn.create(model)
    train_in_appearance(network, 0)
    images = _images(batch, network.input_size)
    labels = np.argmax(network(images), axis=1).astype(np.int32)
    return lambda: rawcnn.attacks.pgd(network, images, labels, epsilon=ENDLESS, steps=steps).images


def _images(batch: int, size: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(0).random((batch, size, size, 3), np.float32))


JOBS: Mapping[str, Callable[[str, int, int, str], Run]] = {"inference": inference, "training": training}
Point = tuple[str, float, int, Callable[[], Run]]  # name, x, images of a call, what makes the call


def along_batch(job: str, model: str, precision: str, batches: Sequence[int], size: int) -> list[Point]:
    return [(str(b), b, b, partial(JOBS[job], model, b, size, precision)) for b in batches]


def along_size(job: str, model: str, precision: str, sizes: Sequence[int], batch: int) -> list[Point]:
    return [(f"{s}", s, batch, partial(JOBS[job], model, batch, s, precision)) for s in sizes]


def along_depth(job: str, models: Sequence[str], precision: str, batch: int, size: int) -> list[Point]:
    macs = {m: rawcnn.profile(m, size=size).totals["macs"] for m in models}
    return [(m, macs[m], batch, partial(JOBS[job], m, batch, size, precision)) for m in models]


def along_steps(model: str, steps: Sequence[int], batch: int) -> list[Point]:
    return [(str(n), n, batch, partial(attack, model, batch, n)) for n in steps]


def measure(points: Sequence[Point], rounds: int, told: Callable[[str], None], **about: str) -> Series:
    """The points, each after a call that is not counted."""
    runs: dict[str, Run] = {}
    for name, _, _, make in points:
        runs[name] = make()
        timed(runs[name])
        told(f"{name} is ready")
    seconds = interleaved(runs, rounds, lambda n: told(f"round {n + 1} of {rounds}"))
    return Series(
        **about,
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
    size: int = 224,
    attacked: str = "cifar_resnet20",
    file: Path | None = None,
    command: str = "benchmarks.grow",
    progress: Progress | None = None,
) -> list[Series]:
    """Inference and training steps along batch, size and depth, and PGD along its steps; each appended to `file`."""
    network = models[0]
    plans: list[tuple[dict[str, str], list[Point]]] = []
    for job in JOBS:
        about = {"job": job, "precision": precision}
        plans += [
            ({"along": "batch", "model": network, **about}, along_batch(job, network, precision, batches, size)),
            ({"along": "size", "model": network, **about}, along_size(job, network, precision, sizes, batch)),
            ({"along": "depth", "model": ", ".join(models), **about}, along_depth(job, models, precision, batch, size)),
        ]
    if precision == "float32":  # an attack's images and gradients are; what it walks in bfloat16 is its own setting
        steps_about = {"along": "steps", "model": attacked, "job": "PGD", "precision": precision}
        plans.append((steps_about, along_steps(attacked, steps, 8 * batch)))
    results = []
    for number, (about, points) in enumerate(plans):
        told = partial(_tell, progress, f"{about['job']} along {about['along']}", number, len(plans))
        results.append(measure(points, rounds, told, **about))
        if file:
            append(results[-1:], command, file)
        gc.collect()
    return results


def _tell(progress: Progress | None, series: str, number: int, total: int, what: str) -> None:
    if progress:
        progress(f"{series}: {what}", number, total)
