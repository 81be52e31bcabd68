"""Race of attacks: rawcnn's PGD, DeepFool and spatial grid against foolbox, ART, cleverhans and a loop around Keras.

All contestants attack the same network and the same correctly classified images, with the same steps from the original
images. `attack_agreement` compares their results before the timing.

Then the contestants are timed in interleaved rounds. rawcnn removes images that are already misclassified from the
batch. PGD is therefore raced a second time with an ε too small to change a prediction. Then all contestants take all
steps, and the growth of rawcnn's time with the number of steps and of images is measured too.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np

import rawcnn
from benchmarks.harness.timing import StepProgress, Timing, interleaved, timed
from benchmarks.races.attack_agreement import NO_EFFECT, OURS, Judge, attack_of, ours
from benchmarks.races.attack_peers import OPPONENTS, AttackTask, library_of
from benchmarks.races.visualize_peers import installed
from rawcnn.attacks.problem import predict
from rawcnn.nn.arguments import Size
from rawcnn.nn.network import Network

MODEL = "cifar_resnet20"
PREDICTED = 256  # images per batch in the search for correctly classified images
SLOW = 2  # opponents that take this many times as long as the fastest one are called only once
# Growth of PGD's time: over these steps with the second batch, and over these batches with the second number of steps.
STEPS, BATCHES = (5, 10, 20, 40), (16, 32, 64, 128)


@dataclass(frozen=True)
class Attack:
    """An attack with its settings, by rawcnn's names."""

    kind: str  # a key of OPPONENTS
    batch: int
    settings: Mapping[str, Any]
    grows: bool = False  # whether the growth of its time is measured


PGD = {"epsilon": 8 / 255, "step": 2 / 255, "steps": 40}
ATTACKS = {
    "pgd": Attack("pgd", 128, PGD),
    "pgd, nothing fooled": Attack("pgd", 128, {**PGD, "epsilon": NO_EFFECT, "step": NO_EFFECT / 4}, grows=True),
    "deepfool": Attack("deepfool", 64, {"steps": 50, "candidates": 10, "overshoot": 0.02}),
    "spatial grid": Attack("grid", 64, {"rotation": 30.0, "translation": 3.0, "angles": 31, "shifts": 5}),
}
PGDS = ("pgd", "pgd, nothing fooled")
AGAINST_KERAS = (OURS[0], "keras function")  # contestants on networks for which a library's call takes minutes


@dataclass(frozen=True)
class AttackRaceResult:
    """The result of one race.

    Seconds are those of the complete attack on the batch. Ratios are the fastest opponent's time divided by rawcnn's.
    """

    attack: str
    network: str
    size: Size
    batch: int
    settings: Mapping[str, Any]
    timings: tuple[Timing, ...]  # rawcnn first; the difference is the share of other pixels after one step of PGD
    success: Mapping[str, float]  # by contestant: share of the images that are misclassified; all were correct before
    l2: Mapping[str, tuple[float, float]]  # mean and median length of the change
    named: Mapping[str, str] = field(default_factory=dict)  # sources of the weights and images, for the record
    growth: Mapping[str, Any] | None = None

    @cached_property
    def by_name(self) -> dict[str, Timing]:
        return {timing.name: timing for timing in self.timings}

    @property
    def fastest_peer(self) -> Timing | None:
        """The fastest of the opponents that raced in all rounds, by median."""
        rounds = len(self.timings[0].seconds)
        peers = [t for t in self.timings if t.name not in OURS and len(t.seconds) == rounds]
        return min(peers, key=lambda t: t.median, default=None)

    @property
    def complete(self) -> bool:
        """Whether all contestants ran."""
        return self.by_name.keys() >= set(names_of(self.attack))

    def ratios(self, ours: str = OURS[0]) -> tuple[float, ...]:
        """Return the fastest opponent's time divided by that of `ours`, per round; () if one of them did not race."""
        best = self.fastest_peer
        if not best or ours not in self.by_name:
            return ()
        return best.over(self.by_name[ours])

    def ratio(self, ours: str = OURS[0]) -> float | None:
        """Return the median of `ratios`."""
        ratios = self.ratios(ours)
        return float(np.median(ratios)) if ratios else None

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        best = self.fastest_peer
        libraries = {name for t in self.timings if (name := library_of(t.name))}
        ratios = {name: self.ratios(name) for name in OURS if self.ratios(name)}
        return {
            "settings": {
                "attack": self.attack,
                "network": self.network,
                "weights": self.named.get("weights"),
                "data": self.named.get("data"),
                "batch": self.batch,
                "size": self.size,
                "rounds": len(self.timings[0].seconds),
                **self.settings,
            },
            "figures": {
                "fastest_peer": best.name if best else None,
                "complete": self.complete,
                "ratio": self.ratio(),
                "ratios": {name: float(np.median(r)) for name, r in ratios.items()},
                "ratio_quartiles": {name: [float(q) for q in np.percentile(r, (25, 75))] for name, r in ratios.items()},
                "contestants": [
                    {
                        **t.summary(),
                        "success": self.success[t.name],
                        "mean_l2": self.l2[t.name][0],
                        "median_l2": self.l2[t.name][1],
                    }
                    for t in self.timings
                ],
                "growth": self.growth,
                "libraries": {name: installed(name) for name in sorted(libraries)},
            },
        }


# Contestants and images ----------------------------------------------------------------------------------------------


def names_of(attack: str) -> tuple[str, ...]:
    """Return the contestants of an attack, rawcnn's first. Raise ValueError for an unknown attack."""
    if attack not in ATTACKS:
        raise ValueError(f"there is no race of {attack!r}; expected one of {', '.join(ATTACKS)}")
    return (*OURS, *OPPONENTS[ATTACKS[attack].kind])


def right_images(
    network: Network, count: int, images: np.ndarray | None = None, labels: np.ndarray | None = None, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return images that the network classifies correctly.

    Args:
        network: The network.
        count: The number of images.
        images: float32 [N,H,W,3] in [0,1]; by default noise with the predictions as labels.
        labels: int32 [N].
        seed: Seed of the order in which images are tried, and of the noise.

    Returns:
        (images float32 [count,H,W,3] in [0,1], labels int32 [count]).

    Raises:
        ValueError: If fewer than `count` images are classified correctly.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    if images is None or labels is None:
        noise = generator.random((count, *network.image_size, 3), np.float32)
        return noise, predict(network, noise)[0]
    found: list[int] = []
    order = generator.permutation(len(labels))  # data sets may be sorted by class
    for start in range(0, len(order), PREDICTED):
        some = order[start : start + PREDICTED]
        found += list(some[predict(network, images[some])[0] == labels[some]])
        if len(found) >= count:
            chosen = found[:count]
            return np.asarray(images[chosen], np.float32), np.asarray(labels[chosen], np.int32)
    raise ValueError(f"the network is right on {len(found)} of {len(labels)} images; expected {count}: give more")


# Time ----------------------------------------------------------------------------------------------------------------


def race_attack(
    attack: str,
    network: Network | None = None,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    *,
    batch: int | None = None,
    rounds: int = 3,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    named: Mapping[str, str] | None = None,
    progress: StepProgress | None = None,
    **settings: Any,
) -> AttackRaceResult:
    """Race one attack on a network.

    Args:
        attack: A key of `ATTACKS`.
        network: The attacked network; by default a CIFAR ResNet-20 with weights drawn from `seed`.
        images: float32 [N,H,W,3] in [0,1], of which correctly classified ones are attacked; by default noise.
        labels: int32 [N].
        batch: Number of attacked images; by default that of the attack.
        rounds: Number of timed rounds.
        contestants: Some of `names_of(attack)`; by default all that are installed.
        seed: Seed of the weights and of the choice of images.
        named: Sources of the weights and data, for the record.
        progress: Called with (description, steps done, number of steps).
        **settings: Replace settings of the attack.

    Raises:
        ValueError: For an unknown attack, contestant or setting, or too few correctly classified images.
        Disagreement: If the results of the contestants are not comparable.
    """
    names = select_contestants(attack, contestants)
    raced = ATTACKS[attack]
    batch = batch or raced.batch
    if batch < 1 or rounds < 1:
        raise ValueError(f"batch is {batch} and rounds {rounds}; expected at least 1")
    if unknown := settings.keys() - raced.settings.keys():
        some = ", ".join(raced.settings)
        raise ValueError(f"{attack} has no setting {', '.join(sorted(unknown))}; expected some of {some}")
    network = network or rawcnn.create(MODEL, seed=seed)
    try:
        chosen = right_images(network, batch, images, labels, seed=seed)
        task = AttackTask(network, *chosen, {**raced.settings, **settings})
        return _race(attack, task, names, rounds, named or {}, progress or (lambda what, done, total: None))
    finally:
        keras.backend.clear_session()
        gc.collect()


def select_contestants(attack: str, contestants: Sequence[str] | None) -> tuple[str, ...]:
    """Return the contestants, by default all that are installed.

    Raises:
        ValueError: For an unknown or repeated contestant, without rawcnn, or for a library that is not installed.
    """
    names = names_of(attack)
    absent = {name: library for name in names if (library := library_of(name)) and not installed(library)}
    if contestants is None:
        return tuple(name for name in names if name not in absent)
    if not contestants or len(set(contestants)) < len(contestants) or not set(contestants) <= set(names):
        raise ValueError(f"contestants are {', '.join(contestants) or 'none'}; expected some of {', '.join(names)}")
    if OURS[0] not in contestants:
        raise ValueError(
            f"{OURS[0]} is not among the contestants; name it too, because the others are compared with it"
        )
    if lacking := [library for name, library in absent.items() if name in contestants]:
        raise ValueError(f"{lacking[0]} must be installed to race; use pip, or name other contestants")
    return tuple(sorted(contestants, key=names.index))


def _race(
    attack: str, task: AttackTask, names: Sequence[str], rounds: int, named, progress: StepProgress
) -> AttackRaceResult:
    raced = ATTACKS[attack]
    grows = raced.grows and tuple(names) != AGAINST_KERAS
    total = len(names) + rounds + 2 + grows
    judge, runs = Judge(task, raced.kind), {}
    first_calls: dict[str, float] = {}
    differences: dict[str, float | None] = {}
    for number, name in enumerate(names, start=1):
        runs[name] = attack_of(task, raced.kind, name)
        first_calls[name], attacked = timed(runs[name])
        judge.measure(name, attacked)
        differences[name] = judge.compare_step(name)
        progress(f"{name}: first call {first_calls[name]:.1f} s, fools {judge.success[name]:.1%}", number, total)
    judge.decide()
    fastest = min((seconds for name, seconds in first_calls.items() if name not in OURS), default=np.inf)
    slow = {name for name in names if name not in OURS and first_calls[name] > SLOW * fastest}
    seconds = interleaved(
        {name: run for name, run in runs.items() if name not in slow},
        rounds,
        lambda n: progress(f"round {n + 1} of {rounds}", len(names) + n + 2, total),
    )
    seconds |= {name: (first_calls[name],) for name in slow}
    grown = growth(task, rounds) if grows else None
    progress("done", total, total)
    return AttackRaceResult(
        attack,
        task.network.name,
        task.network.input_size,
        len(task.images),
        task.settings,
        tuple(Timing(name, first_calls[name], seconds[name], None, differences[name]) for name in names),
        judge.success,
        judge.l2,
        named,
        grown,
    )


def growth(
    task: AttackTask, rounds: int, steps: Sequence[int] = STEPS, batches: Sequence[int] = BATCHES
) -> dict[str, Any]:
    """Measure how the time of rawcnn's PGD grows with the number of steps and of images.

    Returns:
        For "steps" and "images": the counts, the median seconds, and the exponent p of seconds ∝ countᵖ, fitted to the
        logarithms (None for a single count). Batches larger than the task's are left out.
    """
    batches = [count for count in batches if count <= len(task.images)] or [len(task.images)]
    few, middle = steps[min(1, len(steps) - 1)], batches[min(1, len(batches) - 1)]
    by_steps = {f"{k} steps": ours(task.first(middle).with_settings(steps=k), "pgd", OURS[0]) for k in steps}
    by_images = {f"{n} images": ours(task.first(n).with_settings(steps=few), "pgd", OURS[0]) for n in batches}
    runs: dict[str, Callable[[], object]] = {**by_steps, **by_images}
    medians = {name: float(np.median(seconds)) for name, seconds in interleaved(runs, rounds).items()}

    def fitted(counts: Sequence[int], names) -> dict[str, Any]:
        taken = [medians[name] for name in names]
        exponent = float(np.polyfit(np.log(counts), np.log(taken), 1)[0]) if len(counts) > 1 else None
        return {"counts": list(counts), "seconds": taken, "exponent": exponent}

    return {
        "steps": {**fitted(steps, by_steps), "batch": middle},
        "images": {**fitted(batches, by_images), "steps": few},
    }
