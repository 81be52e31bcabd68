"""The benchmarks that the command line runs: lists of races and measurements, and the short race of the tour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.results import append
from benchmarks.harness.timing import StepProgress
from benchmarks.measurements.memory import MemoryResult, measure_memory
from benchmarks.measurements.scale import ScaleResult, measure_scale
from benchmarks.races.attacks import ATTACKS, AttackRaceResult, race_attack
from benchmarks.races.contestants import JOBS
from benchmarks.races.gradients import SHAPES, GradientResult, race_gradients
from benchmarks.races.kernels import CASES, KernelCase, KernelResult, race_kernel
from benchmarks.races.kernels import JOBS as KERNEL_JOBS
from benchmarks.races.networks import RaceResult, race
from benchmarks.races.visualize import BATCHES, LAYERS, VisualizeResult, race_visualization
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network

MODELS = ("cifar_resnet20", "resnet18", "resnet50", "googlenet", "inception_v3", "vgg16", "alexnet")


def run(
    models: Sequence[str] = MODELS, jobs: Sequence[str] = tuple(JOBS), *, file: Path | None = None,
    command: str = "benchmarks.run", progress: StepProgress | None = None, **settings: Any,
) -> list[RaceResult]:  # fmt: skip
    """Race each job on each model.

    Args:
        models: Names of models.
        jobs: Some of "inference" and "training".
        file: A result file; each result is appended as soon as it is measured.
        command: The command line that is recorded with the results.
        progress: Called with (description, steps done, number of steps) of the current race.
        **settings: Keyword arguments of `race`.
    """
    races = {f"{model} {job}": partial(race, model, job, **settings) for model in models for job in jobs}
    return _one_by_one(races, file, command, progress)


def run_memory(
    contestants: Mapping[tuple[str, str], Sequence[str]], *, file: Path | None = None,
    command: str = "benchmarks.run_memory", progress: StepProgress | None = None, **settings: Any,
) -> list[MemoryResult]:  # fmt: skip
    """Measure the peak memory of the contestants of each (model, job).

    `settings` are keyword arguments of `measure_memory`; the other arguments are those of `run`.
    """
    measured = {
        f"{model} {job}": partial(measure_memory, model, job, names, **settings)
        for (model, job), names in contestants.items()
    }
    return _one_by_one(measured, file, command, progress)


def run_scale(
    models: Sequence[str], *, file: Path | None = None, command: str = "benchmarks.run_scale",
    progress: StepProgress | None = None, **settings: Any,
) -> list[ScaleResult]:  # fmt: skip
    """Measure how the training of each model scales.

    `settings` are keyword arguments of `measure_scale`; the other arguments are those of `run`.
    """
    return _one_by_one({model: partial(measure_scale, model, **settings) for model in models}, file, command, progress)


def run_kernels(
    cases: Sequence[KernelCase] = CASES, jobs: Sequence[str] = KERNEL_JOBS, *, file: Path | None = None,
    command: str = "benchmarks.run_kernels", progress: StepProgress | None = None, **settings: Any,
) -> list[KernelResult]:  # fmt: skip
    """Race the forms of each case. The other arguments are those of `run`."""
    results = []
    races = [(case, job) for case in cases for job in jobs]
    for number, (case, job) in enumerate(races, start=1):
        result = race_kernel(case, job, **settings)
        results.append(result)
        if file:
            append([result], command, file)
        if progress:
            progress(f"{case} {job}: {result.best.name} {result.gflops(result.best):.0f} GFLOP/s", number, len(races))
    return results


def run_visualizations(
    layers: Mapping[str, str] = LAYERS, batches: Sequence[int] = BATCHES, *, file: Path | None = None,
    command: str = "benchmarks.run_visualizations", progress: StepProgress | None = None, **settings: Any,
) -> list[VisualizeResult]:  # fmt: skip
    """Race one step of feature visualization on a layer of each network and each batch; otherwise as `run`."""
    races = {
        f"{model} {layer}, batch {batch}": partial(race_visualization, model, layer, batch=batch, **settings)
        for model, layer in layers.items()
        for batch in batches
    }
    return _one_by_one(races, file, command, progress)


def run_attacks(
    attacks: Sequence[str] = tuple(ATTACKS), network: Network | None = None, images: np.ndarray | None = None,
    labels: np.ndarray | None = None, *, file: Path | None = None, command: str = "benchmarks.run_attacks",
    progress: StepProgress | None = None, **settings: Any,
) -> list[AttackRaceResult]:  # fmt: skip
    """Race each attack on the network and images of `race_attack`; otherwise as `run`."""
    races = {attack: partial(race_attack, attack, network, images, labels, **settings) for attack in attacks}
    return _one_by_one(races, file, command, progress)


def run_gradients(
    models: Sequence[str] = tuple(SHAPES), *, file: Path | None = None, command: str = "benchmarks.run_gradients",
    progress: StepProgress | None = None, **settings: Any,
) -> list[GradientResult]:  # fmt: skip
    """Race a training step by the tape and by hand on each network; otherwise as `run`."""
    return _one_by_one({model: partial(race_gradients, model, **settings) for model in models}, file, command, progress)


def _one_by_one(
    races: Mapping[str, Callable[..., Any]], file: Path | None, command: str, progress: StepProgress | None
) -> list[Any]:
    """Run the races in order; each result is appended to `file` as soon as it is measured."""
    results = []
    for name, run_race in races.items():

        def report(what: str, done: int, total: int, name=name) -> None:
            if progress:
                progress(f"{name}: {what}", done, total)

        results.append(run_race(progress=report))
        if file:
            append(results[-1:], command, file)
    return results


def tour_race(progress: StepProgress | None = None) -> list[RaceResult]:
    """Race ResNet-20 on CIFAR-10's image size, inference and training step, for the tour.

    The contestants are rawcnn in the mode that it selects, Keras's default and a hand-written tf.function. Contestants
    with a long compilation are left out. The ratio therefore refers to the better of these two, and the tables of the
    documents do not use it.
    """
    contestants = (f"rawcnn {choose().mode}", "keras default", "keras function")
    return run(["cifar_resnet20"], batch=32, rounds=10, contestants=contestants, progress=progress)
