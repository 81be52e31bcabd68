"""A race of one job on one network, rawcnn against Keras, by one protocol.

The same weights, precision, batch, loss and optimiser; data resident; results compared first, and no time is told
unless they agree; then rounds A B C A B C …; median and spread of each. The headline is the time of Keras's best
contestant (by median) over that of the one that `rawcnn.nn.execution.choose` takes on this machine, round by round,
and of these ratios the median: above 1, rawcnn is faster.

Batch normalisation normalises alike in both; for its running average rawcnn takes the unbiased variance of the batch,
Keras the biased one, which a training step's gradients do not see. Networks with dropout draw their masks differently:
there Keras's training steps are compared with dropout taken out of both networks.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec

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
from benchmarks.harness.timing import Progress, Timing, interleaved, timed
from benchmarks.races.contestants import JOBS, MIXED, NAMES, RATE, TORCH
from benchmarks.races.setup import Contest, Contestant, Setup
from benchmarks.twins.keras import keras_twin
from benchmarks.twins.specification import model_of
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network

CHECKED_IMAGES = 8  # of the batch, where the twin itself is compared


@dataclass(frozen=True)
class RaceResult(Contest):
    """One race. Ratios are Keras's time over rawcnn's: above 1, rawcnn is faster."""

    parameters: int
    timings: tuple[Timing, ...]  # the reference first
    chosen: str | None  # what rawcnn takes on this machine; None where it did not race
    reason: str
    twin: Agreement | None  # of the twin in float32, where the contestants' own gradients do not tell it

    def timing(self, name: str) -> Timing:
        """Of one contestant. ValueError for one that did not race."""
        for timing in self.timings:
            if timing.name == name:
                return timing
        raise ValueError(f"{name!r} was not in this race of {', '.join(t.name for t in self.timings)}")

    @property
    def keras_best(self) -> Timing | None:
        """Keras's fastest contestant, by median."""
        opponents = [t for t in self.timings if t.name.startswith("keras")]
        return min(opponents, key=lambda t: t.median, default=None)

    @property
    def complete(self) -> bool:
        """Whether all contestants ran: only then is Keras's best its best."""
        return {t.name for t in self.timings} >= set(names_for(self.precision))

    @property
    def ratio(self) -> float | None:
        """Keras's best time over the chosen one's: the median over the rounds, in each of which both ran."""
        return float(np.median(self.ratios)) if self.ratios else None

    @property
    def ratios(self) -> tuple[float, ...]:
        """The same of each round."""
        best = self.keras_best
        if not best or not self.chosen:
            return ()
        return best.over(self.timing(self.chosen))

    def to_json(self) -> dict[str, object]:
        """Plain numbers: settings and figures."""
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
    size: int | None = None,
    classes: int | None = None,
    precision: str = "float32",
    rounds: int = 10,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> RaceResult:
    """Race `job` ("inference", or "training": one step) on a model by name, or on a network.

    A network brings its own size, classes and precision; `seed` draws the weights of one by name, and the images.
    `contestants` are some of `benchmarks.races.contestants.NAMES`, by default all. Raises ValueError for an unknown job
    or contestant, and for a training that drops paths; Disagreement where results differ.
    """
    names = entered(contestants, model.precision if isinstance(model, Network) else precision)
    if job not in JOBS:
        raise ValueError(f"job is {job!r}; expected one of {', '.join(JOBS)}")
    if batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1")
    if isinstance(model, str):
        model = rawcnn.create(model, classes=classes, seed=seed, size=size, precision=precision)
        train_in_appearance(model, seed)
    network = model
    if job == "training" and any(op.kind == "drop_path" for op in network.training_operations):
        raise ValueError(f"{network.name} drops paths in training, which the Keras twin does not; race its inference")
    start = {path: v.numpy() for path, v in network.variables.items()}
    try:
        return _race(network, job, batch, rounds, names, start, seed, progress or (lambda what, done, total: None))
    finally:
        for path, value in start.items():
            network.variables[path].assign(value)
        keras.backend.clear_session()
        gc.collect()


def train_in_appearance(network: Network, seed: int) -> None:
    """Biases and batch norms as after a training: TensorFlow takes the zeros of a fresh network out of its graphs."""
    generator = np.random.default_rng(seed)
    for path, variable in network.variables.items():
        if path.endswith(("/mean", "/offset", "/bias")):
            variable.assign(generator.normal(0, 0.1, variable.shape))
        elif path.endswith(("/variance", "/scale")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))


def names_for(precision: str) -> tuple[str, ...]:
    """Who races where nobody is named."""
    return tuple(name for name in NAMES if precision == "bfloat16" or name != MIXED)


def entered(contestants: Sequence[str] | None, precision: str) -> tuple[str, ...]:
    """These contestants, by default all but PyTorch's, the reference first; ValueError for unknown ones."""
    names = names_for(precision) if contestants is None else tuple(contestants)
    known = (*NAMES, *TORCH)
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"contestants are {', '.join(names) or 'none'}; expected some of {', '.join(known)}")
    if set(names) & set(TORCH) and not find_spec("torch"):
        raise ValueError("PyTorch is not installed; pip install torch, or leave the contestants torch … out")
    return tuple(sorted(names, key=known.index))  # rawcnn's first: it is the reference


def _race(network, job, batch, rounds, names, start, seed, progress) -> RaceResult:
    generator = np.random.default_rng(seed)
    images = generator.random((batch, network.input_size, network.input_size, 3), np.float32)
    labels = generator.integers(0, network.classes, batch).astype(np.int32)
    twin_of_keras, torch = keras_twin(network, network.precision), None
    if set(names) & set(TORCH):
        from benchmarks.twins.torch import Twin

        torch = Twin(model_of(network))
        torch.load(start)
    setup = Setup(network, twin_of_keras, tf.constant(images), tf.constant(labels), torch)
    drops = job == "training" and any(op.kind == "dropout" for op in network.operations)
    total = 2 + len(names) + rounds
    progress("the Keras twin is built", 1, total)
    twin = None
    if drops or network.precision != "float32":
        some = slice(0, CHECKED_IMAGES)
        single = setup.twin if network.precision == "float32" else keras_twin(network, "float32")
        twin = check_twin(network, single, setup.images[some], setup.labels[some])
        del single
    # Taken once, and only where gradients differ at all: it is two eager steps.
    sensitivity = cache(partial(rounding_sensitivity, network, setup.images, setup.labels, network.precision))
    ready, first_calls = [], {}
    differences: dict[str, float | None] = {}
    reference: tuple[str, np.ndarray, Gradients | None] | None = None
    for number, name in enumerate(names):
        contestant = JOBS[job](setup, name)
        first_calls[name], result = timed(contestant.run)
        gradients = _step_gradients(contestant, setup, start) if contestant.gradients else None
        setup.reset(start)
        _finite(contestant, result, gradients)
        if reference is None:
            reference = name, result, gradients
            differences[name] = 0.0
        elif drops and contestant.side != reference[0].split()[0]:
            differences[name] = None
        else:
            differences[name] = _compare(contestant, result, gradients, reference, network.precision, sensitivity)
        ready.append(contestant)
        progress(f"{name}: first call {first_calls[name]:.1f} s", 2 + number, total)
    del reference
    runs = {contestant.name: contestant.run for contestant in ready}
    seconds = interleaved(runs, rounds, lambda n: progress(f"round {n + 1} of {rounds}", 2 + len(names) + n + 1, total))
    if not all(np.all(np.isfinite(contestant.run())) for contestant in ready):
        raise Disagreement(f"the {job} of {network.name} ended in numbers that are not finite; its times mean nothing")
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
        tuple(Timing(n, first_calls[n], seconds[n], None, differences[n]) for n in names),
        chosen if chosen in names else None,
        choice.reason,
        twin,
    )


def _step_gradients(contestant: Contestant, setup: Setup, start) -> Gradients:
    """The gradients of the first step. Disagreement if the weights did not move by them."""
    assert contestant.gradients is not None
    gradients, values = contestant.gradients(), setup.values(contestant.side)
    for path, gradient in gradients.items():
        now = values[path].reshape(start[path].shape)
        wanted = start[path] - RATE * gradient.reshape(start[path].shape)
        if not np.allclose(now, wanted, rtol=1e-5, atol=1e-7):
            raise Disagreement(f"{contestant.name} did not move {path} by its velocity")
    return gradients


def _finite(contestant: Contestant, loss: np.ndarray, gradients: Gradients | None) -> None:
    if not all(np.all(np.isfinite(v)) for v in (loss, *(gradients or {}).values())):
        raise Disagreement(f"{contestant.name} gives numbers that are not finite")


def _compare(contestant, result, gradients, reference, precision: str, sensitivity: Callable[[], float]) -> float:
    """The difference from the reference: of the logits, or of loss and gradients."""
    name, expected, wanted = reference
    who = f"{contestant.name} (against {name})"
    if wanted is None:
        return compare_logits(expected, result, precision, who)
    compare_logits(expected, result, precision, f"{who}, by its loss,")
    return compare_gradients(wanted, gradients, precision, sensitivity, who)
