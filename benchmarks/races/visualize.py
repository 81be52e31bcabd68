"""Race of feature visualization: the step of `rawcnn.visualize.optimize` against Keras and two libraries.

The step maximizes the mean of one channel of a middle layer by Adam. The images of 128 pixels have Fourier coefficients
and decorrelated colors, and are shifted, scaled and rotated at random. Two steps are compared before the timing. The
first shifts by whole pixels; its values and gradients must agree. The second uses general transforms; its values must
agree, which shows that the first step changed the images equally. Then rounds of a few steps are interleaved. The
libraries compute other steps (see `benchmarks.races.visualize_peers`), so only their time and memory are reported.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import keras
import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.agreement import Disagreement
from benchmarks.harness.timing import StepProgress, Timing, interleaved, last_words, memory_of, timed
from benchmarks.races.visualize_peers import (
    KERAS,
    PEERS,
    RATE,
    AscentContestant,
    AscentTask,
    installed,
    keras_contestant,
    keras_features,
    library_contestant,
    stepping_contestant,
)
from rawcnn.nn.arguments import Size, image_size
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.optim.optimizers import ADAM_DECAYS
from rawcnn.visualize import objectives
from rawcnn.visualize.ascent_runtime import AscentRuntime
from rawcnn.visualize.layer_maps import as_map
from rawcnn.visualize.optimization import AscentSettings, ascent_step
from rawcnn.visualize.regularization import ROBUST, draw_transforms, images_from, initial_parameters

LAYERS = {  # the middle layer of each network in the race
    "alexnet": "conv4/relu",
    "vgg16": "conv4_2/relu",
    "googlenet": "inception_4a",
    "inception_v3": "mixed_6b",
    "resnet50": "conv4_3/relu",
}
BATCHES = (1, 8, 32)
SIZE = 128
RAW = ("rawcnn graph", "rawcnn xla")
NAMES = (*RAW, *KERAS, *PEERS)
SHIFT = ((1.0, 0.0, 3.0), (0.0, 1.0, -2.0))  # whole pixels, for which both resamplers have the exact gradient
# Factor on the initial noise of an optimization. In nearly gray images rounding decides a pool's maximum.
STRENGTH = 20
# Largest difference of the values, relative to the largest value; length of the gradients' difference, relative to
# their length over the batch. Float32 rounds values at 1e-6. A ReLU or a pool within rounding of a tie changes an
# image's gradient by about 0.5 %. Keras adds Adam's ε to a root without bias correction, which is 32 times smaller in
# the first step. Small gradients therefore make smaller steps, and the next value differs by 3e-4.
TOLERANCE = {"values": 1e-4, "gradients": 1e-2, "values after a step": 5e-3}


@dataclass(frozen=True)
class VisualizeResult:
    """The result of one race. Seconds are per step of the batch; ratios are Keras's time divided by rawcnn's."""

    network: str
    layer: str
    channel: int
    batch: int
    size: Size  # side of the images in pixels, or (height, width)
    steps: int  # of one round
    opponent: str  # Keras's model
    timings: tuple[Timing, ...]  # the reference first
    chosen: str | None  # the mode that rawcnn selects on this machine; None if it did not race
    reason: str  # of that selection

    @cached_property
    def by_name(self) -> dict[str, Timing]:
        return {timing.name: timing for timing in self.timings}

    @property
    def keras_best(self) -> Timing | None:
        """The fastest tape around Keras's model, by median."""
        return min((t for t in self.timings if t.name in KERAS), key=lambda t: t.median, default=None)

    @property
    def complete(self) -> bool:
        """Whether all contestants except the libraries ran."""
        return self.by_name.keys() >= {*RAW, *KERAS}

    @property
    def ratios(self) -> tuple[float, ...]:
        """The time of Keras's best contestant divided by that of rawcnn's selected mode, per round."""
        best = self.keras_best
        if not best or not self.chosen:
            return ()
        return best.over(self.by_name[self.chosen])

    @property
    def ratio(self) -> float | None:
        """The median of `ratios`."""
        return float(np.median(self.ratios)) if self.ratios else None

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        low, high = (float(v) for v in np.percentile(self.ratios, (25, 75))) if self.ratios else (None, None)
        return {
            "settings": {
                "visualize": self.network,
                "layer": self.layer,
                "channel": self.channel,
                "batch": self.batch,
                "size": self.size,
                "precision": "float32",
                "rounds": len(self.timings[0].seconds),
                "steps": self.steps,
            },
            "figures": {
                "chosen": self.chosen,
                "reason": self.reason,
                "opponent": self.opponent,
                "keras_best": self.keras_best.name if self.keras_best else None,
                "complete": self.complete,
                "ratio": self.ratio,
                "ratio_quartiles": [low, high],
                "contestants": [{**t.summary(), "per_image": t.median / self.batch} for t in self.timings],
                "libraries": {name: installed(name) for name in PEERS if name in self.by_name},
            },
        }


def race_visualization(
    model: str | Network,
    layer: str | None = None,
    *,
    batch: int = 8,
    size: Size = SIZE,
    rounds: int = 5,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    progress: StepProgress | None = None,
) -> VisualizeResult:
    """Race one step of feature visualization on a network.

    Without a GPU the memory is measured in another process, which creates the model by its name. For a network it is
    not measured.

    Args:
        model: The name of a model, or a network.
        layer: The layer; by default that of `LAYERS`.
        batch: Images per step.
        size: Side of the images in pixels, or (height, width). Only for a name.
        rounds: Number of timed rounds.
        contestants: Some of `NAMES`; by default all that are installed.
        seed: Seed of the weights of a model by name, and of the images.
        progress: Called with (description, steps done, number of steps).

    Raises:
        ValueError: For an unknown contestant or layer, or a library that is not installed.
        Disagreement: If the results of the contestants differ.
    """
    names = select_contestants(contestants)
    if batch < 1 or rounds < 1:
        raise ValueError(f"batch is {batch} and rounds {rounds}; expected at least 1")
    name = model if isinstance(model, str) else model.name
    if layer is None and name not in LAYERS:
        raise ValueError(f"no layer of {name} is named; name one, or take {' or '.join(LAYERS)}")
    network = rawcnn.create(model, size=size, seed=seed) if isinstance(model, str) else model
    layer = layer or LAYERS[name]
    network.operation(layer)
    try:
        memory = memory_apart(name, layer, batch, size, seed, names) if isinstance(model, str) else {}
        return _race(network, layer, batch, rounds, names, seed, memory, progress or (lambda what, done, total: None))
    finally:
        keras.backend.clear_session()
        gc.collect()


def select_contestants(contestants: Sequence[str] | None) -> tuple[str, ...]:
    """Return the contestants, by default all that are installed. Raise ValueError for an unknown or missing one."""
    if contestants is None:
        return tuple(name for name in NAMES if name not in PEERS or installed(name))
    unknown = [name for name in contestants if name not in NAMES]
    if unknown or not contestants or len(set(contestants)) < len(contestants):
        raise ValueError(f"contestants are {', '.join(contestants) or 'none'}; expected some of {', '.join(NAMES)}")
    absent = [name for name in contestants if name in PEERS and not installed(name)]
    if absent:
        raise ValueError(f"{' and '.join(absent)} must be installed to race; use pip, or name other contestants")
    return tuple(sorted(contestants, key=NAMES.index))  # the first of rawcnn is the reference


def _race(network: Network, layer: str, batch: int, rounds: int, names, seed: int, memory, progress: StepProgress):
    total = 1 + len(names) + rounds
    features, opponent = keras_features(network, layer)
    progress(f"{opponent} is built", 1, total)
    task = _task(network, layer, features, batch, seed)
    reference: tuple[str, list[np.ndarray]] | None = None
    verified: list[AscentContestant] = []
    first_calls: dict[str, float] = {}
    differences: dict[str, float | None] = {}
    for number, name in enumerate(names):
        contestant = _contestant(task, name)
        if contestant.step and contestant.gradient:
            first_calls[name], results = two_steps(contestant.step, contestant.gradient, batch, task.moves[0])
            reference = reference or (name, results)
            differences[name] = compare(name, results, *reference)
        else:
            first_calls[name], _ = timed(contestant.run)
            differences[name] = None
        verified.append(contestant)
        progress(f"{name}: first call {first_calls[name]:.1f} s", 2 + number, total)
    if tf.config.list_logical_devices("GPU"):
        memory = {contestant.name: memory_of(contestant.run) for contestant in verified}
    taken: dict[str, list[float]] = {name: [] for name in names}
    latest: dict[str, float] = {}  # seconds that a contestant reports itself: without the creation of its images

    def run(contestant: AscentContestant) -> None:
        latest[contestant.name] = contestant.run()

    def end_round(number: int) -> None:
        for name in names if number >= 0 else ():
            taken[name].append(latest[name])
        progress(f"round {number + 1} of {rounds}", 1 + len(names) + number + 1, total)

    interleaved({contestant.name: partial(run, contestant) for contestant in verified}, rounds, end_round)
    choice = choose()
    chosen = f"rawcnn {choice.mode}"
    return VisualizeResult(
        network.name,
        layer,
        task.channel,
        batch,
        network.input_size,
        task.steps,
        opponent,
        tuple(Timing(n, first_calls[n], tuple(taken[n]), memory.get(n), differences[n]) for n in names),
        chosen if chosen in names else None,
        choice.reason,
    )


def _task(network: Network, layer: str, features: keras.Model, batch: int, seed: int) -> AscentTask:
    """Return the shared task: at least two steps per round, and at least four images over all steps.

    The channel is that with the largest mean activation of the first image, because an inactive one has no gradient.
    """
    size, steps = network.image_size, max(2, 4 // batch)
    seeds = [[seed, place] for place in range(batch)]
    start = np.float32(STRENGTH) * initial_parameters(ROBUST, size, seeds)
    answers = network.activations(images_from(tf.constant(start[:1]), ROBUST, size), [layer])[layer]
    channel = int(tf.argmax(tf.reduce_mean(as_map(answers), axis=(0, 1, 2))))
    return AscentTask(
        network, layer, channel, features, start, tf.constant(draw_transforms(ROBUST, size, steps, seeds))
    )


def _contestant(task: AscentTask, name: str) -> AscentContestant:
    if name in RAW:
        return raw_contestant(task, name)
    return keras_contestant(task, name) if name in KERAS else library_contestant(task, name)


def raw_contestant(task: AscentTask, name: str) -> AscentContestant:
    """Return the contestant that repeats the step of `rawcnn.visualize.optimize`."""
    objective = objectives.channel(task.network, task.layer, task.channel)
    settings = AscentSettings(size=task.size, rate=RATE, compile=name.removeprefix("rawcnn "))
    runtime = AscentRuntime(task.network, objective, settings, ascent_step)
    rows = [tf.constant(array) for array in objective.repeated_rows(task.batch)]
    z = tf.constant(task.start)
    state = [
        z,
        tf.zeros_like(z),
        tf.zeros_like(z),
        tf.constant(1.0),
    ]  # coefficients, Adam's two moments, the number of the step

    def step(moves: tf.Tensor) -> np.ndarray:
        *new, values, _ = runtime.step(*state, moves, rows)
        state[:] = [*new, state[-1] + 1]
        return values.numpy()

    return stepping_contestant(name, task, step, lambda: -state[1].numpy() / (1 - ADAM_DECAYS[0]))


def two_steps(step, gradient, batch: int, moves: tf.Tensor) -> tuple[float, list[np.ndarray]]:
    """Return (seconds of the first call, the results that are compared).

    The results are the values and gradient of a first step, shifted by whole pixels, and the values of a second step,
    transformed by `moves`.
    """
    shift = tf.constant(np.tile(np.array(SHIFT, np.float32), (batch, 1, 1)))
    seconds, values = timed(lambda: step(shift))
    first_gradient = gradient()
    return seconds, [values, first_gradient, step(moves)]


def compare(name: str, results: Sequence[np.ndarray], reference: str, expected: Sequence[np.ndarray]) -> float:
    """Return the length of the gradients' difference, relative to the reference's. Raise Disagreement if too large."""
    errors = {}
    for what, a, b in zip(TOLERANCE, expected, results, strict=True):
        order = 2 if what == "gradients" else np.inf  # length, or largest absolute value
        error, size = (float(np.linalg.norm(np.ravel(v).astype(np.float64), order)) for v in (b - a, a))
        errors[what] = error / max(size, 1e-30)
        if not errors[what] <= TOLERANCE[what]:  # this form also rejects NaN
            raise Disagreement(f"the {what} of {name} differ from those of {reference} by {errors[what]:.2g}")
    return errors["gradients"]


# Memory ---------------------------------------------------------------------------------------------------------------


def memory_apart(model: str, layer: str, batch: int, size: Size, seed: int, names: Sequence[str]) -> dict[str, int]:
    """Measure the memory of a run of each contestant in another process: bytes by name.

    With oneDNN, TensorFlow on a CPU keeps the memory that a step frees, so the next step needs no more. The process
    therefore uses the system's allocator, which is slower but returns memory. With a GPU the result is {}, because
    TensorFlow reports its memory.
    """
    if tf.config.list_logical_devices("GPU"):
        return {}
    numbers = map(str, (batch, *image_size(size), seed))
    words = [sys.executable, "-m", "benchmarks.races.visualize", model, layer, *numbers, *names]
    environment = {**os.environ, "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}
    run = subprocess.run(words, capture_output=True, text=True, env=environment)
    if run.returncode:
        raise RuntimeError(f"the memory of {model} could not be measured: {last_words(run)}")
    return json.loads(run.stdout.splitlines()[-1])


def memory_here(network: Network, layer: str, batch: int, seed: int, names: Sequence[str]) -> dict[str, int | None]:
    """Measure in this process the second run of each contestant; the first one traces and compiles."""
    task = _task(network, layer, keras_features(network, layer)[0], batch, seed)
    memory = {}
    for name in names:
        contestant = _contestant(task, name)
        contestant.run()
        memory[name] = memory_of(contestant.run)
    return memory


if __name__ == "__main__":
    model, layer, batch, height, width, seed, *names = sys.argv[1:]
    network = rawcnn.create(model, size=(int(height), int(width)), seed=int(seed))
    print(json.dumps(memory_here(network, layer, int(batch), int(seed), names)))
