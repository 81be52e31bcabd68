"""Race of a training step by TensorFlow's automatic differentiation and by the gradients that the kernels write out.

    tape graph, hand graph      the step of `rawcnn train`, `--gradients tape` and `hand`, as a TensorFlow graph
    tape xla, hand xla          the same, compiled by XLA

All contestants have the same weights, images, labels and dropout masks. The loss and the gradients of the first step
are compared before anything is timed; then the steps are timed in interleaved rounds. The first call (tracing,
compilation and one step) and the peak memory are measured in a fresh process for each contestant.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.agreement import Gradients, compare_gradients, compare_logits, rounding_sensitivity
from benchmarks.harness.timing import StepProgress, Timing, interleaved, last_words, memory_of, timed
from benchmarks.races.networks import randomize_norms
from rawcnn.nn.arguments import Size
from rawcnn.nn.execution import Choice
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, make_step

SHAPES: dict[str, tuple[int, int]] = {  # network → side of the images in pixels, images per batch
    "cifar_resnet20": (32, 32),
    "alexnet": (131, 8),
    "googlenet": (96, 8),
    "resnet50": (96, 8),
    "vgg16": (64, 8),
}
NAMES = ("tape graph", "hand graph", "tape xla", "hand xla")
RATE, MOMENTUM = 1e-4, 0.9
CALLS = 3  # of the measurement of memory: caches and pools are full after the second


@dataclass(frozen=True)
class GradientResult:
    """The result of one race: the timings of the contestants, those of the tape as a graph first."""

    model: str
    batch: int
    size: Size
    classes: int
    timings: tuple[Timing, ...]

    def ratio(self, mode: str) -> tuple[float, ...]:
        """The time by hand divided by the tape's, per round; empty unless both ran in this mode."""
        found = {timing.name: timing for timing in self.timings}
        hand, tape = found.get(f"hand {mode}"), found.get(f"tape {mode}")
        return hand.over(tape) if hand and tape else ()

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        settings: dict[str, object] = {"gradients": self.model, "batch": self.batch, "size": self.size}
        settings |= {"classes": self.classes, "precision": "float32", "rounds": len(self.timings[0].seconds)}
        ratios = {mode: self.ratio(mode) for mode in ("graph", "xla")}
        medians = {mode: float(np.median(ratio)) for mode, ratio in ratios.items() if ratio}
        return {
            "settings": settings,
            "figures": {
                "complete": {t.name for t in self.timings} >= set(NAMES),
                "hand_over_tape": medians,
                "contestants": [t.summary() for t in self.timings],
            },
        }


def race_gradients(
    model: str | Network,
    *,
    batch: int | None = None,
    size: Size | None = None,
    rounds: int = 10,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    progress: StepProgress | None = None,
) -> GradientResult:
    """Race one training step.

    Args:
        model: The name of a model, or a network, whose first call and memory are then not measured apart.
        batch: Images per step; by default that of `SHAPES`, or 8.
        size: Side of the images in pixels, or (height, width); by default that of `SHAPES`, or the model's.
        rounds: Number of timed rounds.
        contestants: Some of `NAMES`; by default all.
        seed: Seed of the images and of the weights.
        progress: Called with (description, steps done, number of steps).

    Raises:
        ValueError: For an unknown contestant.
        Disagreement: If losses or gradients differ.
        RuntimeError: If a process that measures the memory fails.
    """
    names = select_contestants(contestants)
    side, images = SHAPES.get(model if isinstance(model, str) else "", (None, 8))
    batch, size = batch or images, size or side
    apart = len(names) if isinstance(model, str) else 0
    total, done = apart + len(names) + 1 + rounds, count(1)

    def report(what: str) -> None:
        if progress:
            progress(what, next(done), total)

    alone = {}
    if isinstance(model, str):
        for name in names:
            alone[name] = _apart(name, model, batch, size, seed)
            report(f"{name}: first call {alone[name]['first_call']:.1f} s")
    network = rawcnn.create(model, seed=seed, size=size) if isinstance(model, str) else model
    if isinstance(model, str):
        randomize_norms(network, seed)
    setup = Steps(network, batch, seed)
    differences, first = setup.verify(names, report)
    runs = {name: setup.runs[name] for name in names}
    seconds = interleaved(runs, rounds, lambda number: report(f"round {number + 1} of {rounds}"))
    setup.reset()
    timings = [
        Timing(
            name, alone.get(name, {}).get("first_call", first[name]), seconds[name], alone.get(name, {}).get("memory"),
            differences[name],
        )
        for name in names
    ]  # fmt: skip
    gc.collect()
    return GradientResult(network.name, batch, network.input_size, network.classes, tuple(timings))


def select_contestants(contestants: Sequence[str] | None) -> tuple[str, ...]:
    """Return the contestants in the order of `NAMES`. Raises ValueError for an unknown or repeated one."""
    names = NAMES if contestants is None else tuple(contestants)
    if not names or len(set(names)) < len(names) or set(names) - set(NAMES):
        raise ValueError(f"contestants are {', '.join(names) or 'none'}; expected some of {', '.join(NAMES)}")
    return tuple(sorted(names, key=NAMES.index))


class Steps:
    """The training steps of all contestants, on the same variables; each has velocities of its own.

    Attributes:
        runs: Name → a call that takes a step and waits for its loss.
    """

    def __init__(self, network: Network, batch: int, seed: int):
        generator = np.random.default_rng(seed)
        self.network = network
        self.images = tf.constant(generator.random((batch, *network.image_size, 3), np.float32))
        self.labels = tf.constant(generator.integers(0, network.classes, batch).astype(np.int32))
        self.start = {path: v.numpy() for path, v in network.variables.items()}
        self.states: dict[str, State] = {}
        self.runs: dict[str, Callable[[], np.ndarray]] = {}

    def prepare(self, name: str) -> Callable[[], np.ndarray]:
        """Create the step of a contestant."""
        gradients, mode = name.split()
        recipe = Recipe("race", "ours", batch=len(self.images), epochs=1, rate=RATE, momentum=MOMENTUM)
        recipe = replace(recipe, gradients=gradients)
        self.states[name] = state = State.begin(self.network, recipe)
        step = make_step(self.network, recipe, state, Choice(mode, "as requested"))
        seed, rate = tf.constant([0, 0]), tf.constant(RATE)
        self.runs[name] = lambda: step(self.images, self.labels, seed, rate)["loss"].numpy()
        return self.runs[name]

    def reset(self) -> None:
        """Assign the first values to the variables."""
        for path, value in self.start.items():
            self.network.variables[path].assign(value)

    def verify(
        self, names: Sequence[str], report: Callable[[str], None]
    ) -> tuple[dict[str, float | None], dict[str, float]]:
        """Take the first step of each contestant; return differences from the first one and the seconds of the calls.

        Raises:
            Disagreement: If losses or gradients differ by more than `benchmarks.harness.agreement` allows.
        """
        sensitivity = partial(rounding_sensitivity, self.network, self.images, self.labels, "float32")
        differences: dict[str, float | None] = {}
        first: dict[str, float] = {}
        reference: tuple[np.ndarray, Gradients] | None = None
        for name in names:
            first[name], loss = timed(self.prepare(name))
            gradients = self._gradients(self.states[name].slots)
            self.reset()
            reference = reference or (loss, gradients)
            compare_logits(reference[0], loss, "float32", f"{name}, by its loss,")
            differences[name] = compare_gradients(reference[1], gradients, "float32", sensitivity, name)
            report(f"{name}: compared")
        return differences, first

    def _gradients(self, slots: Mapping) -> Gradients:
        """The gradients of the first step, from the velocities −η·g."""
        return {path: -slots[f"{path}/velocity"].numpy() / RATE for path in self.network.trained_variables}


def _apart(name: str, model: str, batch: int, size: Size | None, seed: int) -> dict:
    """Return what `main` prints in a fresh process. Raise RuntimeError if it fails."""
    order = json.dumps([name, model, batch, size, seed])
    run = subprocess.run([sys.executable, "-m", "benchmarks.races.gradients", order], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{name} of {model} failed in a process of its own: {last_words(run)}")
    return json.loads(run.stdout.splitlines()[-1])


def main(order: str) -> None:
    """Print the seconds of a contestant's first call and its peak memory."""
    name, model, batch, size, seed = json.loads(order)
    # TensorFlow loads libraries for its first graph, and XLA for its first program; that is not counted
    tf.function(lambda x: tf.nn.relu(tf.nn.conv2d(x, x, 1, "SAME")), jit_compile=True)(tf.ones((1, 1, 1, 1)))
    network = rawcnn.create(model, seed=seed, size=size)
    randomize_norms(network, seed)
    run = Steps(network, batch, seed).prepare(name)
    seconds: list[float] = []
    memory = memory_of(lambda: seconds.extend(timed(run)[0] for _ in range(CALLS)))
    print(json.dumps({"first_call": seconds[0], "memory": memory}))


if __name__ == "__main__":
    main(sys.argv[1])
