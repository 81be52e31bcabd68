"""Run a network on one image, forward and backward, and record everything that its explanation shows.

The forward pass runs twice. The first run records where each operation stands in the model's source and which
functions of `kernels` compute it. The second run is timed, because the first one compiles and allocates.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.explain.source import Call, calls_of_model
from rawcnn.nn.backpropagation import Applied, Recorded, backward_pass, loss_and_gradient
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import PREPROCESSING_GRADIENT
from rawcnn.training.recipes import Recipe

KERNELS = Path(kernels.__file__).parent
# Files of `kernels` that compute nothing themselves: they check, measure, choose and differentiate
HELPERS = ("geometry", "precision", "compiler", "cost", "arguments", "selection", "replica", "finite", "empty", "differentiable")
LOSS = "loss"  # the name of the last operation, the cross-entropy
IMAGES = "images"  # the network's input after preprocessing
PIXELS = "pixels"  # its input before that, RGB in [0,1]
GRADIENT = "∂"  # the prefix of a gradient's name: ∂conv1 is ∂L/∂(output of conv1)


class Ran(NamedTuple):
    """A function of `kernels` that an operation called."""

    file: str
    line: int
    name: str


@dataclass(frozen=True)
class Recording:
    """A network on one image.

    Attributes:
        network: The network.
        operations: Its operations in order, with inputs, parameters and outputs.
        tensors: All values by name, without the batch's axis: activations [H,W,C] or [C] by operation, "images",
            "pixels", parameters by path, and the gradient of the loss to each of them under "∂" and its name.
        places: Operation → the lines of the model's source that applied it, the innermost first.
        functions: Operation → the functions of `kernels` that computed it, in the order of their calls.
        seconds: Operation → how long its forward pass took.
        label: The number of the class that the loss is computed for.
        loss: The cross-entropy, without weight decay.
        recipe: The recipe whose loss it is.
    """

    network: Network
    operations: tuple[Applied, ...]
    tensors: Mapping[str, np.ndarray]
    places: Mapping[str, list[Call]]
    functions: Mapping[str, list[Ran]]
    seconds: Mapping[str, float]
    label: int
    loss: float
    recipe: Recipe


def record_image(network: Network, image: np.ndarray, label: int, recipe: Recipe) -> Recording:
    """Run a network on an image, forward and backward.

    Args:
        network: The network, in float32.
        image: [H,W,3], float RGB in [0,1].
        label: The number of the class that the loss is computed for.
        recipe: The recipe that determines label smoothing. (Auxiliary heads act in training alone.)

    Returns:
        The recording.

    Raises:
        ValueError: The logits are not finite.
    """
    images = tf.constant(image[None], tf.float32)  # [1,H,W,3]
    operations: list[Applied] = []
    places: dict[str, list[Call]] = {}
    functions: dict[str, list[Ran]] = {}
    seconds: dict[str, float] = {}
    located = partial(Located, operations=operations, places=places, functions=functions)
    forward = network.trace(network.variables, images, trace_type=located)
    if not np.isfinite(forward.logits).all():
        raise ValueError(f"{network.name} gives logits that are not finite; its weights are damaged: load others")
    network.trace(network.variables, images, trace_type=partial(Timed, seconds=seconds))
    loss, to_logits = loss_and_gradient(network, operations, tf.constant([label]), recipe)
    to_parameters, to_activations = backward_pass(operations, to_logits)
    tensors = _values(network, images, operations, to_parameters, to_activations)
    return Recording(
        network, tuple(operations), tensors, places, functions, seconds, label, float(loss), recipe
    )


def _values(network, images, operations, to_parameters, to_activations) -> dict[str, np.ndarray]:
    """Return all values and gradients by name, without the batch's axis."""
    inputs = {source: x for op in operations for source, x in zip(op.sources, op.inputs, strict=True)}
    activations = {IMAGES: inputs[IMAGES], PIXELS: images} | {op.name: op.output for op in operations}
    to_images = to_activations.get(IMAGES, tf.zeros_like(images))
    to_activations = {
        **to_activations,
        IMAGES: to_images,
        PIXELS: PREPROCESSING_GRADIENT[network.preprocessing](to_images),
    }
    values = {name: x[0].numpy() for name, x in activations.items()}
    for name, x in values.copy().items():  # an operation that the loss does not depend on has the gradient zero
        values[GRADIENT + name] = to_activations[name][0].numpy() if name in to_activations else np.zeros_like(x)
    for op in operations:
        for leaf, value in op.parameters.items():
            path = f"{op.name}/{leaf}"
            values[path] = value.numpy()
            if path in to_parameters:
                values[GRADIENT + path] = to_parameters[path].numpy()
    return values


class Located(Recorded):
    """A trace that also records the source line of each operation, and the functions of `kernels` that it calls."""

    def __init__(self, *variables_and_images, places, functions, **options):
        super().__init__(*variables_and_images, **options)
        self._places, self._functions = places, functions

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        """Apply the kernel and record its place and its functions."""
        self._places[name] = calls_of_model()
        with calls_of_kernels() as ran:
            result = super().apply(name, kind, kernel, inputs, parameters, **metadata)
        self._functions[name] = list(dict.fromkeys(ran))
        return result


class Timed(Recorded):
    """A trace that measures how long each kernel takes."""

    def __init__(self, *variables_and_images, seconds, **options):
        super().__init__(*variables_and_images, operations=[], **options)
        self._seconds = seconds

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        """Apply the kernel and measure it, until the device has finished."""
        return super().apply(name, kind, self._timed(name, kernel), inputs, parameters, **metadata)

    def _timed(self, name: str, kernel: Callable) -> Callable:
        def timed(*tensors):
            start = time.perf_counter()
            result = kernel(*tensors)
            tf.test.experimental.sync_devices()
            self._seconds[name] = time.perf_counter() - start
            return result

        return timed


@contextmanager
def calls_of_kernels():
    """Yield a list that receives the public functions of `kernels` that are called within the block."""
    ran: list[Ran] = []

    def note(frame: FrameType, event: str, _) -> None:
        if event == "call" and _is_form(frame):
            ran.append(Ran(frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_code.co_name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield ran
    finally:
        sys.setprofile(before)


def _is_form(frame: FrameType) -> bool:
    """Return whether a frame is a function of `kernels` that computes a result."""
    file = Path(frame.f_code.co_filename)
    return KERNELS in file.parents and file.stem not in HELPERS and not frame.f_code.co_name.startswith(("_", "<"))
