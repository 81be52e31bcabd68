"""Feature visualization: the step of `rawcnn.visualize.optimize` against the ways of Keras's users and two libraries.

One unit, the mean of a channel of a middle layer; images of 128 pixels made of Fourier coefficients and decorrelated
colours, moved, scaled and turned at random, climbed by Adam. Equal first: in a first step, whose moves are whole-pixel
shifts, the values and the gradients to the coefficients; in a second, by moves of all kinds, the values again, which
tells that the images moved alike. Then interleaved rounds of a few steps each. The libraries compute something else
(`benchmarks.races.visualize_peers` says what), so only their time and memory are told.
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
from benchmarks.harness.timing import Progress, Timing, interleaved, last_words, memory_of, timed
from benchmarks.races.visualize_peers import (
    KERAS,
    PEERS,
    RATE,
    Contestant,
    Task,
    installed,
    keras_features,
    keras_way,
    library,
    paced,
)
from rawcnn.nn.execution import choose
from rawcnn.nn.network import Network
from rawcnn.optim.optimizers import ADAM_DECAYS
from rawcnn.visualize import objectives
from rawcnn.visualize.ascent_runtime import AscentRuntime
from rawcnn.visualize.layer_maps import as_map
from rawcnn.visualize.optimization import AscentSettings, ascent_step
from rawcnn.visualize.regularization import ROBUST, draw_transforms, images_from, initial_parameters

LAYERS = {  # the middle layer of each network that is raced
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
SHIFT = ((1.0, 0.0, 3.0), (0.0, 1.0, -2.0))  # whole pixels: both resamplers give the exact gradient
# Times the noise that an optimization begins with: in grey images rounding decides which pixel wins a pool.
STRENGTH = 20
# Largest difference of values, relative to the largest; length of the slopes' difference, relative to their length over
# the batch. Float32 rounds values at 1e-6; a ReLU or a pool within rounding of a tie moves an image's gradient by
# some .5 %. Keras adds Adam's ε to a root that is not yet corrected, in the first step 32 times smaller, so small
# slopes make smaller steps: 3e-4 of the value after it.
TOLERANCE = {"values": 1e-4, "slope": 1e-2, "values after a step": 5e-3}


@dataclass(frozen=True)
class VisualizeResult:
    """One race. Seconds are those of one step of the batch; ratios are Keras's time over rawcnn's."""

    network: str
    layer: str
    channel: int
    batch: int
    size: int
    steps: int  # of one round
    opponent: str  # Keras's model
    timings: tuple[Timing, ...]  # the reference first
    chosen: str | None  # what rawcnn takes on this machine; None where it did not race
    reason: str

    @cached_property
    def by_name(self) -> dict[str, Timing]:
        return {timing.name: timing for timing in self.timings}

    @property
    def keras_best(self) -> Timing | None:
        """The fastest tape around Keras's model, by median."""
        return min((t for t in self.timings if t.name in KERAS), key=lambda t: t.median, default=None)

    @property
    def complete(self) -> bool:
        """Whether all but the libraries ran."""
        return self.by_name.keys() >= {*RAW, *KERAS}

    @property
    def ratios(self) -> tuple[float, ...]:
        """Keras's best time over the chosen one's, of each round."""
        best = self.keras_best
        if not best or not self.chosen:
            return ()
        return best.over(self.by_name[self.chosen])

    @property
    def ratio(self) -> float | None:
        """Their median."""
        return float(np.median(self.ratios)) if self.ratios else None

    def to_json(self) -> dict[str, object]:
        """Plain numbers: settings and figures."""
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
    size: int = SIZE,
    rounds: int = 5,
    contestants: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> VisualizeResult:
    """Race the step on a model by name (`size` pixels, weights drawn from `seed`), or on a network with its own size.

    `contestants` are some of NAMES, by default all that are installed; `layer` must be named where LAYERS does not.
    ValueError for unknown ones, for a library that is not installed; Disagreement where results differ. Without a GPU
    the memory is measured by another process, which makes the model by its name; of a network it is not told.
    """
    names = entered(contestants)
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


def entered(contestants: Sequence[str] | None) -> tuple[str, ...]:
    if contestants is None:
        return tuple(name for name in NAMES if name not in PEERS or installed(name))
    unknown = [name for name in contestants if name not in NAMES]
    if unknown or not contestants or len(set(contestants)) < len(contestants):
        raise ValueError(f"contestants are {', '.join(contestants) or 'none'}; expected some of {', '.join(NAMES)}")
    absent = [name for name in contestants if name in PEERS and not installed(name)]
    if absent:
        raise ValueError(f"{' and '.join(absent)} must be installed to race; use pip, or name other contestants")
    return tuple(sorted(contestants, key=NAMES.index))  # rawcnn's first: it is the reference


def _race(network: Network, layer: str, batch: int, rounds: int, names, seed: int, memory, progress: Progress):
    total = 1 + len(names) + rounds
    features, opponent = keras_features(network, layer)
    progress(f"{opponent} is built", 1, total)
    task = _task(network, layer, features, batch, seed)
    reference: tuple[str, list[np.ndarray]] | None = None
    entered: list[Contestant] = []
    first_calls: dict[str, float] = {}
    differences: dict[str, float | None] = {}
    for number, name in enumerate(names):
        contestant = _contestant(task, name)
        if contestant.step and contestant.slope:
            first_calls[name], results = two_steps(contestant.step, contestant.slope, batch, task.moves[0])
            reference = reference or (name, results)
            differences[name] = compare(name, results, *reference)
        else:
            first_calls[name], _ = timed(contestant.run)
            differences[name] = None
        entered.append(contestant)
        progress(f"{name}: first call {first_calls[name]:.1f} s", 2 + number, total)
    if tf.config.list_logical_devices("GPU"):
        memory = {contestant.name: memory_of(contestant.run) for contestant in entered}
    taken: dict[str, list[float]] = {name: [] for name in names}
    latest: dict[str, float] = {}  # a contestant's own seconds: some make the images first, which is not counted

    def take(contestant: Contestant) -> None:
        latest[contestant.name] = contestant.run()

    def end(number: int) -> None:
        for name in names if number >= 0 else ():
            taken[name].append(latest[name])
        progress(f"round {number + 1} of {rounds}", 1 + len(names) + number + 1, total)

    interleaved({contestant.name: partial(take, contestant) for contestant in entered}, rounds, end)
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


def _task(network: Network, layer: str, features: keras.Model, batch: int, seed: int) -> Task:
    """Two steps a round or more, of four images or more.

    The channel is the one that answers most to the first image, for a dead one has no slope.
    """
    size, steps = network.input_size, max(2, 4 // batch)
    seeds = [[seed, place] for place in range(batch)]
    start = np.float32(STRENGTH) * initial_parameters(ROBUST, size, seeds)
    answers = network.activations(images_from(tf.constant(start[:1]), ROBUST, size), [layer])[layer]
    channel = int(tf.argmax(tf.reduce_mean(as_map(answers), axis=(0, 1, 2))))
    return Task(network, layer, channel, features, start, tf.constant(draw_transforms(ROBUST, size, steps, seeds)))


def _contestant(task: Task, name: str) -> Contestant:
    if name in RAW:
        return raw_way(task, name)
    return keras_way(task, name) if name in KERAS else library(task, name)


def raw_way(task: Task, name: str) -> Contestant:
    """The step that `rawcnn.visualize.optimize` takes, with its state carried on."""
    objective = objectives.channel(task.network, task.layer, task.channel)
    settings = AscentSettings(size=task.size, rate=RATE, compile=name.removeprefix("rawcnn "))
    runtime = AscentRuntime(task.network, objective, settings, ascent_step)
    rows = [tf.constant(array) for array in objective.repeated_rows(task.batch)]
    z = tf.constant(task.start)
    state = [z, tf.zeros_like(z), tf.zeros_like(z), tf.constant(1.0)]  # coefficients, Adam's moments, the step's number

    def step(moves: tf.Tensor) -> np.ndarray:
        *new, values, _ = runtime.step(*state, moves, rows)
        state[:] = [*new, state[-1] + 1]
        return values.numpy()

    return paced(name, task, step, lambda: -state[1].numpy() / (1 - ADAM_DECAYS[0]))


def two_steps(step, slope, batch: int, moves: tf.Tensor) -> tuple[float, list[np.ndarray]]:
    """(seconds of the first call; values and slope of a first step by whole pixels, values of a second by `moves`)."""
    shift = tf.constant(np.tile(np.array(SHIFT, np.float32), (batch, 1, 1)))
    seconds, values = timed(lambda: step(shift))
    first_slope = slope()
    return seconds, [values, first_slope, step(moves)]


def compare(name: str, results: Sequence[np.ndarray], reference: str, expected: Sequence[np.ndarray]) -> float:
    """The difference of the slopes, relative to their length over the batch. Disagreement above a tolerance."""
    errors = {}
    for what, a, b in zip(TOLERANCE, expected, results, strict=True):
        order = 2 if what == "slope" else np.inf  # length, or the largest
        error, size = (float(np.linalg.norm(np.ravel(v).astype(np.float64), order)) for v in (b - a, a))
        errors[what] = error / max(size, 1e-30)
        if not errors[what] <= TOLERANCE[what]:  # so that NaN fails too
            raise Disagreement(f"the {what} of {name} differ from those of {reference} by {errors[what]:.2g}")
    return errors["slope"]


# Memory ---------------------------------------------------------------------------------------------------------------


def memory_apart(model: str, layer: str, batch: int, size: int, seed: int, names: Sequence[str]) -> dict[str, int]:
    """Bytes that a run of each takes, told by a process of its own; {} with a GPU, whose memory TensorFlow tells.

    With oneDNN TensorFlow keeps on a CPU what a step has freed, and the next one takes nothing above it. Where the
    system's allocator is used instead, which costs time, memory is given back, and can be measured.
    """
    if tf.config.list_logical_devices("GPU"):
        return {}
    words = [sys.executable, "-m", "benchmarks.races.visualize", model, layer, str(batch), str(size), str(seed), *names]
    environment = {**os.environ, "TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}
    run = subprocess.run(words, capture_output=True, text=True, env=environment)
    if run.returncode:
        raise RuntimeError(f"the memory of {model} could not be measured: {last_words(run)}")
    return json.loads(run.stdout.splitlines()[-1])


def memory_here(network: Network, layer: str, batch: int, seed: int, names: Sequence[str]) -> dict[str, int | None]:
    """The same in this process, of each contestant's second run: the first one's traces and compiles."""
    task = _task(network, layer, keras_features(network, layer)[0], batch, seed)
    memory = {}
    for name in names:
        contestant = _contestant(task, name)
        contestant.run()
        memory[name] = memory_of(contestant.run)
    return memory


if __name__ == "__main__":
    model, layer, batch, size, seed, *names = sys.argv[1:]
    network = rawcnn.create(model, size=int(size), seed=int(seed))
    print(json.dumps(memory_here(network, layer, int(batch), int(seed), names)))
