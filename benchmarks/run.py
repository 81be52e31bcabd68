"""The races that the command line runs: a list of them, and the short ones of the tour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.attack_race import ATTACKS, AttackRace, race_attack
from benchmarks.contestants import JOBS
from benchmarks.kernels_race import CASES, Case, KernelResult, race_kernel
from benchmarks.kernels_race import JOBS as KERNEL_JOBS
from benchmarks.race import RaceResult, race
from benchmarks.results import append
from benchmarks.timing import Progress
from benchmarks.visualize_race import BATCHES, LAYERS, SIZE, VisualizeResult, race_visualization
from rawcnn.compile import choose
from rawcnn.network import Network

MODELS = ("cifar_resnet20", "resnet18", "resnet50", "googlenet", "vgg16", "alexnet")  # a race a family


def run(
    models: Sequence[str] = MODELS,
    jobs: Sequence[str] = tuple(JOBS),
    *,
    batch: int = 8,
    size: int | None = None,
    classes: int | None = None,
    precision: str = "float32",
    rounds: int = 10,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    file: Path | None = None,
    command: str = "benchmarks.run",
    progress: Progress | None = None,
) -> list[RaceResult]:
    """Race each job on each model; each result is appended to `file`, if one is named, as soon as it is there.

    `progress(what, done, total)` counts the steps of one race, and starts anew with the next.
    """
    results = []
    for model in models:
        for job in jobs:

            def told(what: str, done: int, total: int, race=f"{model} {job}") -> None:
                if progress:
                    progress(f"{race}: {what}", done, total)

            result = race(
                model,
                job,
                batch=batch,
                size=size,
                classes=classes,
                precision=precision,
                rounds=rounds,
                contestants=contestants,
                seed=seed,
                progress=told,
            )
            results.append(result)
            if file:
                append([result], command, file)
    return results


def run_kernels(
    cases: Sequence[Case] = CASES,
    jobs: Sequence[str] = KERNEL_JOBS,
    *,
    precision: str = "float32",
    rounds: int = 10,
    file: Path | None = None,
    command: str = "benchmarks.run_kernels",
    progress: Progress | None = None,
) -> list[KernelResult]:
    """Race the forms of each case; each result is appended to `file`, if one is named, as soon as it is there."""
    results = []
    races = [(case, job) for case in cases for job in jobs]
    for number, (case, job) in enumerate(races, start=1):
        result = race_kernel(case, job, precision=precision, rounds=rounds)
        results.append(result)
        if file:
            append([result], command, file)
        if progress:
            progress(f"{case} {job}: {result.best.name} {result.gflops(result.best):.0f} GFLOP/s", number, len(races))
    return results


def run_visualizations(
    layers: Mapping[str, str] = LAYERS,
    batches: Sequence[int] = BATCHES,
    *,
    size: int = SIZE,
    rounds: int = 5,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    file: Path | None = None,
    command: str = "benchmarks.run_visualizations",
    progress: Progress | None = None,
) -> list[VisualizeResult]:
    """Race the step of feature visualization on a layer of each network, by batches; `file`, `progress` as in `run`."""
    results = []
    for model, layer in layers.items():
        for batch in batches:

            def told(what: str, done: int, total: int, race=f"{model} {layer}, batch {batch}") -> None:
                if progress:
                    progress(f"{race}: {what}", done, total)

            result = race_visualization(
                model,
                layer,
                batch=batch,
                size=size,
                rounds=rounds,
                contestants=contestants,
                seed=seed,
                progress=told,
            )
            results.append(result)
            if file:
                append([result], command, file)
    return results


def run_attacks(
    attacks: Sequence[str] = tuple(ATTACKS),
    network: Network | None = None,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    *,
    batch: int | None = None,
    rounds: int = 3,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    named: Mapping[str, str] | None = None,
    file: Path | None = None,
    command: str = "benchmarks.run_attacks",
    progress: Progress | None = None,
) -> list[AttackRace]:
    """Race each attack on the network and images, as `race_attack` takes them; `file`, `progress` as in `run`."""
    results = []
    for attack in attacks:

        def told(what: str, done: int, total: int, attack=attack) -> None:
            if progress:
                progress(f"{attack}: {what}", done, total)

        result = race_attack(
            attack,
            network,
            images,
            labels,
            batch=batch,
            rounds=rounds,
            contestants=contestants,
            seed=seed,
            named=named,
            progress=told,
        )
        results.append(result)
        if file:
            append([result], command, file)
    return results


def tour_race(progress: Progress | None = None) -> list[RaceResult]:
    """ResNet-20 on CIFAR-10's size, inference and a training step, batch 32: what rawcnn takes here against Keras's
    default and a tf.function by hand. Without the contestants that compile for long on a small machine, so the ratio is
    to the better of these two, and no table of results takes it.
    """
    contestants = (f"rawcnn {choose().mode}", "keras default", "keras function")
    return run(["cifar_resnet20"], batch=32, rounds=10, contestants=contestants, progress=progress)
