"""The races that the command line runs: a list of them, and the short ones of the tour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.results import append
from benchmarks.harness.timing import Progress
from benchmarks.measurements.memory import MemoryResult, measure_memory
from benchmarks.measurements.scale import ScaleResult, measure_scale
from benchmarks.races.attacks import ATTACKS, AttackRace, race_attack
from benchmarks.races.contestants import JOBS
from benchmarks.races.kernels import CASES, Case, KernelResult, race_kernel
from benchmarks.races.kernels import JOBS as KERNEL_JOBS
from benchmarks.races.networks import RaceResult, race
from benchmarks.races.visualize import BATCHES, LAYERS, VisualizeResult, race_visualization
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network

MODELS = ("cifar_resnet20", "resnet18", "resnet50", "googlenet", "inception_v3", "vgg16", "alexnet")


def run(
    models: Sequence[str] = MODELS, jobs: Sequence[str] = tuple(JOBS), *, file: Path | None = None,
    command: str = "benchmarks.run", progress: Progress | None = None, **settings: Any,
) -> list[RaceResult]:  # fmt: skip
    """Race each job on each model, with the settings that `race` takes.

    A result is appended to `file`, if one is named, as soon as it is there. `progress(what, done, total)` counts the
    steps of one race, and starts anew with the next.
    """
    races = {f"{model} {job}": partial(race, model, job, **settings) for model in models for job in jobs}
    return _one_by_one(races, file, command, progress)


def run_memory(
    contestants: Mapping[tuple[str, str], Sequence[str]], *, file: Path | None = None,
    command: str = "benchmarks.run_memory", progress: Progress | None = None, **settings: Any,
) -> list[MemoryResult]:  # fmt: skip
    """The peaks of contestants of each (model, job), with the settings of `measure_memory`; the rest as in `run`."""
    measured = {
        f"{model} {job}": partial(measure_memory, model, job, names, **settings)
        for (model, job), names in contestants.items()
    }
    return _one_by_one(measured, file, command, progress)


def run_scale(
    models: Sequence[str], *, file: Path | None = None, command: str = "benchmarks.run_scale",
    progress: Progress | None = None, **settings: Any,
) -> list[ScaleResult]:  # fmt: skip
    """How the training of each model scales, with the settings of `measure_scale`; the rest as in `run`."""
    return _one_by_one({model: partial(measure_scale, model, **settings) for model in models}, file, command, progress)


def run_kernels(
    cases: Sequence[Case] = CASES, jobs: Sequence[str] = KERNEL_JOBS, *, file: Path | None = None,
    command: str = "benchmarks.run_kernels", progress: Progress | None = None, **settings: Any,
) -> list[KernelResult]:  # fmt: skip
    """Race the forms of each case; the rest as in `run`."""
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
    command: str = "benchmarks.run_visualizations", progress: Progress | None = None, **settings: Any,
) -> list[VisualizeResult]:  # fmt: skip
    """Race the step of feature visualization on a layer of each network, by batches; the rest as in `run`."""
    races = {
        f"{model} {layer}, batch {batch}": partial(race_visualization, model, layer, batch=batch, **settings)
        for model, layer in layers.items()
        for batch in batches
    }
    return _one_by_one(races, file, command, progress)


def run_attacks(
    attacks: Sequence[str] = tuple(ATTACKS), network: Network | None = None, images: np.ndarray | None = None,
    labels: np.ndarray | None = None, *, file: Path | None = None, command: str = "benchmarks.run_attacks",
    progress: Progress | None = None, **settings: Any,
) -> list[AttackRace]:  # fmt: skip
    """Race each attack, on the network and images that `race_attack` takes; the rest as in `run`."""
    races = {attack: partial(race_attack, attack, network, images, labels, **settings) for attack in attacks}
    return _one_by_one(races, file, command, progress)


def _one_by_one(
    races: Mapping[str, Callable[..., Any]], file: Path | None, command: str, progress: Progress | None
) -> list[Any]:
    """The results of the races, by name, in this order."""
    results = []
    for name, run_it in races.items():

        def told(what: str, done: int, total: int, name=name) -> None:
            if progress:
                progress(f"{name}: {what}", done, total)

        results.append(run_it(progress=told))
        if file:
            append(results[-1:], command, file)
    return results


def tour_race(progress: Progress | None = None) -> list[RaceResult]:
    """ResNet-20 on CIFAR-10's size, inference and a training step, batch 32: what rawcnn takes here against Keras's
    default and a tf.function by hand. Without the contestants that compile for long on a small machine, so the ratio is
    to the better of these two, and no table of results takes it.
    """
    contestants = (f"rawcnn {choose().mode}", "keras default", "keras function")
    return run(["cifar_resnet20"], batch=32, rounds=10, contestants=contestants, progress=progress)
