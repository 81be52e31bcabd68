"""A network's race: its task, one contestant, and the networks and images that all contestants share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness.agreement import Gradients
from benchmarks.twins.keras import copy_weights, twin_variables
from rawcnn.nn.arguments import Size
from rawcnn.nn.network import Network


@dataclass(frozen=True)
class NetworkTask:
    """The task of all contestants: a job on a network."""

    model: str
    job: str  # "inference" or "training"
    batch: int
    size: Size  # of the images in pixels
    classes: int
    precision: str


@dataclass(frozen=True)
class Contestant:
    """One way to do the job.

    `run` does it once and waits for the result. For training, `gradients` returns the gradients by path after the first
    step, computed from the velocities.
    """

    name: str
    run: Callable[[], np.ndarray]
    gradients: Callable[[], Gradients] | None = None

    @property
    def library(self) -> str:
        """ "rawcnn", "keras" or "torch"."""
        return self.name.split()[0]


@dataclass(frozen=True)
class Setup:
    """What all contestants share: the network, its twins with the same weights, and one batch."""

    network: Network
    twin: keras.Model
    images: tf.Tensor  # [B,H,W,3]
    labels: tf.Tensor  # int32 [B]
    torch: Any = None  # a `benchmarks.twins.torch.Twin` if PyTorch races

    def reset(self, start: Mapping[str, np.ndarray]) -> None:
        """Assign the weights `start` to the network and its twins."""
        for path, value in start.items():
            self.network.variables[path].assign(value)
        copy_weights(start, twin_variables(self.network, self.twin))
        if self.torch:
            self.torch.load(start)

    def values(self, library: str) -> Mapping[str, np.ndarray]:
        """Return the values of the variables that the contestants of one library train, by the network's paths."""
        if library == "torch":
            return self.torch.values()
        variables = self.network.variables if library == "rawcnn" else twin_variables(self.network, self.twin)
        return {path: variable.numpy() for path, variable in variables.items()}
