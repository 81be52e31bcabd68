"""A race of one job on one network: rawcnn against Keras, and PyTorch if requested.

All contestants have the same weights, precision, batch, loss and optimizer, and the data is on the device. Their
results are compared first, and no time is reported unless they agree. Then they are timed in interleaved rounds. The
ratio is the time of Keras's best contestant (by median) divided by that of the mode that `rawcnn.nn.execution.choose`
selects on this machine: the median over the rounds. Above 1, rawcnn is faster.

For the running variance of batch normalization rawcnn uses the unbiased variance of the batch, Keras the biased one.
This does not affect the gradients of a training step. The libraries draw different dropout masks. Keras's training
steps on networks with dropout are therefore compared without dropout.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import count
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.agreement import (
    Agreement,
    Disagreement,
    Gradients,
    check_twin,
    compare_gradients,
    compare_logits,
    rounding_sensitivity,
)
from benchmarks.harness.timing import StepProgress, Timing, interleaved, timed
from benchmarks.races.contestants import JOBS, MIXED, NAMES, RATE, TORCH
from benchmarks.races.setup import Contestant, NetworkTask, Setup
from benchmarks.twins.keras import keras_twin
from benchmarks.twins.specification import model_of
from rawcnn.nn.arguments import Size
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network

CHECKED_IMAGES = 8  # images of the batch on which the twin in float32 is compared
TextReport = Callable[[str], None]  # reports one step of the race


@dataclass(frozen=True)
class RaceResult(NetworkTask):
    """The result of one race. Ratios are Keras's time divided by rawcnn's: above 1, rawcnn is faster."""

    parameters: int
    timings: tuple[Timing, ...]  # the reference first
    chosen: str | None  # the mode that rawcnn selects on this machine; None if it did not race
    reason: str  # of that selection
    twin: Agreement | None  # of the twin in float32, if the contestants' gradients do not show it

    def timing(self, name: str) -> Timing:
        """Return the timing of one contestant. Raise ValueError for one that did not race."""
        for timing in self.timings:
            if timing.name == name:
                return timing
        raise ValueError(f"{name!r} was not in this race of {', '.join(t.name for t in self.timings)}")

    @property
    def keras_best(self) -> Timing | None:
        """The fastest contestant of Keras, by median."""
        opponents = [t for t in self.timings if t.name.startswith("keras")]
        return min(opponents, key=lambda t: t.median, default=None)

    @property
    def complete(self) -> bool:
        """Whether all contestants ran; otherwise Keras's best contestant may be missing."""
        return {t.name for t in self.timings} >= set(default_contestants(self.precision))

    @property
    def ratio(self) -> float | None:
        """The median of `ratios`."""
        return float(np.median(self.ratios)) if self.ratios else None

    @property
    def ratios(self) -> tuple[float, ...]:
        """The time of Keras's best contestant divided by that of rawcnn's selected mode, per round."""
        best = self.keras_best
        if not best or not self.chosen:
            return ()
        return best.over(self.timing(self.chosen))

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        low, high = (float(v) for v in np.percentile(self.ratios, (25, 75))) if self.ratios else (None, None)
        best = self.keras_best
        return {
            "settings": {
                "model": self.model,
                "job": self.job,
                "batch": self.batch,
                "size": self.size,
                "classes": self.classes,
                "precision": self.precision,
                "rounds": len(self.timings[0].seconds),
                "parameters": self.parameters,
            },
            "figures": {
                "chosen": self.chosen,
                "reason": self.reason,
                "keras_best": best.name if best else None,
                "complete": self.complete,
                "ratio": self.ratio,
                "ratio_minimum": min(self.ratios, default=None),
                "ratio_maximum": max(self.ratios, default=None),
                "ratio_quartiles": [low, high],
                "contestants": [t.summary() for t in self.timings],
                "twin": {"logits": self.twin.logits, "gradient": self.twin.gradient} if self.twin else None,
            },
        }


def race(
    model: str | Network,
    job: str,
    *,
    batch: int = 8,
    size: Size | None = None,
    classes: int | None = None,
    precision: str = "float32",
    rounds: int = 10,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    progress: StepProgress | None = None,
) -> RaceResult:
    """Race one job on a network.

    Args:
        model: The name of a model, or a network.
        job: "inference" or "training" (one step).
        batch: Images per call.
        size: Side of the images in pixels, or (height, width); by default the model's. Only for a name.
        classes: Number of classes; by default the model's. Only for a name.
        precision: "float32" or "bfloat16". Only for a name.
        rounds: Number of timed rounds.
        contestants: Some of `benchmarks.races.contestants.NAMES` and `TORCH`; by default all of `NAMES`.
        seed: Seed of the images, and of the weights of a model by name.
        progress: Called with (description, steps done, number of steps).

    Raises:
        ValueError: For an unknown job or contestant, and for training with drop path.
        Disagreement: If the results of the contestants differ.
    """
    names = select_contestants(contestants, model.precision if isinstance(model, Network) else precision)
    if job not in JOBS:
        raise ValueError(f"job is {job!r}; expected one of {', '.join(JOBS)}")
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1")
    if isinstance(model, str):
        model = rawcnn.create(model, classes=classes, seed=seed, size=size, precision=precision)
        randomize_norms(model, seed)
    network = model
    if job == "training" and any(op.kind == "drop_path" for op in network.training_operations):
        raise ValueError(f"{network.name} drops paths in training, which the Keras twin does not; race its inference")
    start = {path: v.numpy() for path, v in network.variables.items()}
    try:
        return _race(network, job, batch, rounds, names, start, seed, progress)
    finally:
        for path, value in start.items():
            network.variables[path].assign(value)
        keras.backend.clear_session()
        gc.collect()


def randomize_norms(network: Network, seed: int) -> None:
    """Assign random biases and batch-norm variables, because TensorFlow optimizes the zeros of a new network away."""
    generator = np.random.default_rng(seed)
    for path, variable in network.variables.items():
        if path.endswith(("/mean", "/offset", "/bias")):
            variable.assign(generator.normal(0, 0.1, variable.shape))
        elif path.endswith(("/variance", "/scale")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))


def default_contestants(precision: str) -> tuple[str, ...]:
    """Return the contestants that race if none are named."""
    return tuple(name for name in NAMES if precision == "bfloat16" or name != MIXED)


def select_contestants(contestants: Sequence[str] | None, precision: str) -> tuple[str, ...]:
    """Return the contestants, by default all but PyTorch's, with the reference first.

    Raises:
        ValueError: For an unknown or repeated contestant, or if PyTorch is requested but not installed.
    """
    names = default_contestants(precision) if contestants is None else tuple(contestants)
    known = (*NAMES, *TORCH)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"contestants are {', '.join(names) or 'none'}; expected some of {', '.join(known)}")
    if set(names) & set(TORCH) and not find_spec("torch"):
        raise ValueError("PyTorch is not installed; pip install torch, or leave the contestants torch … out")
    return tuple(sorted(names, key=known.index))  # the first of rawcnn is the reference


def _race(network, job, batch, rounds, names, start, seed, progress) -> RaceResult:
    """Prepare, verify and time the contestants."""
    total, done = 2 + len(names) + rounds, count()

    def report(what: str) -> None:
        number = min(next(done) + 1, total)
        if progress:
            progress(what, number, total)

    setup = _prepare(network, batch, names, start, seed)
    report("the Keras twin is built")
    random_gradients = job == "training" and any(op.kind == "dropout" for op in network.operations)
    twin = None
    if random_gradients or network.precision != "float32":
        twin = _verify_twin(setup)
    verified = _verify(setup, job, names, start, random_gradients, report)
    seconds = _time(verified.contestants, rounds, report)
    if not all(np.all(np.isfinite(contestant.run())) for contestant in verified.contestants):
        raise Disagreement(f"the {job} of {network.name} ended in values that are not finite; its times mean nothing")
    choice = choose("auto", network.devices, network.precision)
    chosen = f"rawcnn {choice.mode}"
    return RaceResult(
        network.name,
        job,
        batch,
        network.input_size,
        network.classes,
        network.precision,
        network.parameter_count,
        tuple(Timing(n, verified.first_calls[n], seconds[n], None, verified.differences[n]) for n in names),
        chosen if chosen in names else None,
        choice.reason,
        twin,
    )


# Prepare -------------------------------------------------------------------------------------------------------------


def _prepare(network: Network, batch: int, names: Sequence[str], start, seed: int) -> Setup:
    """Build the twins that the contestants need, with the weights `start`, and draw images and labels."""
    generator = np.random.default_rng(seed)
    images = generator.random((batch, *network.image_size, 3), np.float32)
    labels = generator.integers(0, network.classes, batch).astype(np.int32)
    twin, torch = keras_twin(network, network.precision), None
    if set(names) & set(TORCH):
        from benchmarks.twins.torch import Twin

        torch = Twin(model_of(network))
        torch.load(start)
    return Setup(network, twin, tf.constant(images), tf.constant(labels), torch)


# Verify --------------------------------------------------------------------------------------------------------------


class Verified(NamedTuple):
    """Contestants whose results agree, with the seconds of their first calls and their differences by name."""

    contestants: list[Contestant]
    first_calls: dict[str, float]
    differences: dict[str, float | None]


class Results(NamedTuple):
    """The results of one contestant's first call."""

    name: str
    library: str
    result: np.ndarray  # the logits, or the loss
    gradients: Gradients | None


def _verify_twin(setup: Setup) -> Agreement:
    """Compare the network with its Keras twin in float32, on the first images of the batch."""
    some = slice(0, CHECKED_IMAGES)
    network = setup.network
    single = setup.twin if network.precision == "float32" else keras_twin(network, "float32")
    return check_twin(network, single, setup.images[some], setup.labels[some])


def _verify(setup: Setup, job: str, names, start, random_gradients: bool, report: TextReport) -> Verified:
    """Call each contestant once and compare its results with those of the first."""
    network = setup.network
    # Computed at most once, and only if gradients differ at all, because it takes two eager steps.
    sensitivity = cache(partial(rounding_sensitivity, network, setup.images, setup.labels, network.precision))
    verified = Verified([], {}, {})
    reference: Results | None = None
    for name in names:
        contestant = JOBS[job](setup, name)
        verified.first_calls[name], result = timed(contestant.run)
        gradients = _step_gradients(contestant, setup, start) if contestant.gradients else None
        setup.reset(start)
        _check_finite(name, result, gradients)
        found = Results(name, contestant.library, result, gradients)
        reference = reference or found
        if found is reference:
            difference: float | None = 0.0
        elif random_gradients and found.library != reference.library:
            difference = None
        else:
            difference = _compare(found, reference, network.precision, sensitivity)
        verified.contestants.append(contestant)
        verified.differences[name] = difference
        report(f"{name}: first call {verified.first_calls[name]:.1f} s")
    return verified


def _step_gradients(contestant: Contestant, setup: Setup, start) -> Gradients:
    """Return the gradients of the first step. Raise Disagreement if the weights did not change by them."""
    assert contestant.gradients is not None
    gradients, values = contestant.gradients(), setup.values(contestant.library)
    for path, gradient in gradients.items():
        actual = values[path].reshape(start[path].shape)
        expected = start[path] - RATE * gradient.reshape(start[path].shape)
        if not np.allclose(actual, expected, rtol=1e-5, atol=1e-7):
            raise Disagreement(f"{contestant.name} did not move {path} by its velocity")
    return gradients


def _check_finite(name: str, result: np.ndarray, gradients: Gradients | None) -> None:
    if not all(np.all(np.isfinite(v)) for v in (result, *(gradients or {}).values())):
        raise Disagreement(f"{name} gives values that are not finite")


def _compare(found: Results, reference: Results, precision: str, sensitivity: Callable[[], float]) -> float:
    """Return the difference from the reference: of the logits, or of the gradients after comparing the losses."""
    name = f"{found.name} (against {reference.name})"
    if reference.gradients is None or found.gradients is None:
        return compare_logits(reference.result, found.result, precision, name)
    compare_logits(reference.result, found.result, precision, f"{name}, by its loss,")
    return compare_gradients(reference.gradients, found.gradients, precision, sensitivity, name)


# Time ----------------------------------------------------------------------------------------------------------------


def _time(contestants: Sequence[Contestant], rounds: int, report: TextReport) -> dict[str, tuple[float, ...]]:
    """Time the contestants in interleaved rounds."""
    runs = {contestant.name: contestant.run for contestant in contestants}
    return interleaved(runs, rounds, lambda number: report(f"round {number + 1} of {rounds}"))
