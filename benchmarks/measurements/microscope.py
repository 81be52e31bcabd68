"""Measure what `rawcnn train --microscope` costs: the wall time of an epoch with and without it, in interleaved rounds.

An epoch is what the run's loop does: all steps on images in memory. The evaluation and the checkpoint, which both have,
are left out. With the microscope it ends with one measurement and the writing of its file. The extra time is also
reported in steps. Tracing and the network for comparison are measured once per run, so they are left out, too. Before
the rounds, both kinds of epochs begin with the same variables and must end with the same ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

import rawcnn
from benchmarks.harness.results import append, command_line
from benchmarks.harness.timing import interleaved
from rawcnn.training.microscope import Microscope
from rawcnn.training.recipes import find_recipe
from rawcnn.training.trainer import Training


@dataclass(frozen=True)
class MicroscopeResult:
    """Seconds of an epoch without and with the microscope, one value per round."""

    model: str
    size: int
    batch: int
    steps: int
    without: tuple[float, ...]
    observed: tuple[float, ...]

    @property
    def share(self) -> float:
        """The extra time of an epoch, relative to an epoch without: the median over the rounds."""
        return float(np.median([b / a - 1 for a, b in zip(self.without, self.observed, strict=True)]))

    def to_json(self) -> dict[str, object]:
        """Return the settings and figures as JSON types."""
        settings = {"microscope": self.model, "size": self.size, "batch": self.batch, "steps": self.steps}
        figures = {"without": list(self.without), "observed": list(self.observed), "share": self.share}
        return {"settings": {**settings, "rounds": len(self.without)}, "figures": figures}


def measure_microscope(model: str, *, rounds: int = 5) -> MicroscopeResult:
    """Measure epochs on the digits, with the recipe of the digits.

    Args:
        model: The name of a model for small images.
        rounds: The number of interleaved rounds.

    Returns:
        The seconds of the epochs.
    """
    data = rawcnn.data.load("digits")
    recipe = replace(find_recipe("digits"), epochs=10**6)
    network = rawcnn.create(model, classes=10, size=data.size)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(network, recipe, folder=Path(folder))
        training.progress.at.epoch = 1  # the first measurement of a run also measures a network for comparison
        batches, microscope = training.batches(data), Microscope(training, data)
        runs = {"without": epoch(training, batches), "observed": epoch(training, batches, microscope)}
        check_outputs(training, runs, microscope)  # traces, too
        seconds = interleaved(runs, rounds)
    return MicroscopeResult(model, data.size[0], recipe.batch, batches.steps, seconds["without"], seconds["observed"])


def epoch(training: Training, batches, microscope: Microscope | None = None) -> Callable[[], None]:
    """Return a call that takes the steps of an epoch, then looks through the microscope if there is one."""

    def run() -> None:
        metrics = None
        for index, images, labels in batches.rest_of_epoch(training.at):
            _, metrics = training.take_step(batches, index, images, labels)
        if metrics:
            float(metrics["loss"])  # waits for the last step
        if microscope:
            microscope.observations = replace(microscope.observations, rows=())  # look again
            microscope.look()

    return run


def check_outputs(training: Training, runs: Mapping[str, Callable[[], None]], microscope: Microscope) -> None:
    """Run each kind of epoch from the present state, and compare the states after them.

    Raises:
        ValueError: The variables differ, or the microscope has no row of finite values.
    """
    variables = [variable for group in training.state.groups for variable in group.values()]
    before, after = [variable.numpy() for variable in variables], []
    for run in runs.values():
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        run()
        after.append([variable.numpy() for variable in variables])
    if not all(np.array_equal(*pair) for pair in zip(*after, strict=True)):
        raise ValueError("an epoch under the microscope ends with other variables; the times cannot be compared")
    rows = microscope.observations.rows
    if len(rows) != 1 or not all(np.isfinite(rows[0].values[name]).all() for name in ("activation_norm", "dead_units")):
        raise ValueError("the microscope has no row of finite values; its time is not that of a measurement")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the cost of the microscope, and append it to a file if one is named."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", nargs="*", default=["cifar_resnet20"], help="models for images of 8 pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a file of results")
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(words)
    for model in options.models:
        result = measure_microscope(model, rounds=options.rounds)
        epoch, observed = np.median(result.without), np.median(result.observed)
        print(
            f"{model}: an epoch of {result.steps} steps takes {epoch:.3f} s, with the microscope {observed:.3f} s: "
            f"{result.share:+.1%}, {result.share * result.steps:.2f} steps"
        )
        if options.output:
            append([result], command_line("benchmarks.measurements.microscope", words), options.output)
    return 0


if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    raise SystemExit(main())
