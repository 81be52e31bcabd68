"""What is raced: the job, the networks and images that all share, and one way to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness.agreement import Gradients
from benchmarks.twins.keras import copy_weights, twin_variables
from rawcnn.nn.network import Network


@dataclass(frozen=True)
class Contest:
    """What the contestants are to do."""

    model: str
    job: str  # "inference" or "training"
    batch: int
    size: int  # side of the images in pixels
    classes: int
    precision: str


@dataclass(frozen=True)
class Contestant:
    """One way to do the job. `gradients`, of a training step, reads them back from the velocities of a first step."""

    name: str
    run: Callable[[], np.ndarray]
    gradients: Callable[[], Gradients] | None = None

    @property
    def side(self) -> str:
        return self.name.split()[0]


@dataclass(frozen=True)
class Setup:
    """What the contestants share."""

    network: Network
    twin: keras.Model
    images: tf.Tensor  # [B,H,W,3]
    labels: tf.Tensor  # int32 [B]
    torch: Any = None  # a `benchmarks.twins.torch.Twin`, where PyTorch races

    def reset(self, start: Mapping[str, np.ndarray]) -> None:
        """Both networks back to the weights `start`."""
        for path, value in start.items():
            self.network.variables[path].assign(value)
        copy_weights(start, twin_variables(self.network, self.twin))
        if self.torch:
            self.torch.load(start)

    def values(self, side: str) -> Mapping[str, np.ndarray]:
        """What the variables that the contestants of a side train hold, by the network's paths."""
        if side == "torch":
            return self.torch.values()
        variables = self.network.variables if side == "rawcnn" else twin_variables(self.network, self.twin)
        return {path: variable.numpy() for path, variable in variables.items()}
