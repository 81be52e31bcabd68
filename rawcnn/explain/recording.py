"""Run a network on one image, forward and backward, and record everything that its explanation shows.

The forward pass runs twice. The first run records where each operation stands in the model's source and which
functions of `kernels` compute it. The second run is timed, because the first one compiles and allocates.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.explain.source import ModelCall, calls_of_model, source_of
from rawcnn.nn.backpropagation import (
    GRADIENT_RULES,
    PREPROCESSED,
    Applied,
    AppliedTrace,
    backward_pass,
    image_gradient,
    loss_and_gradient,
)
from rawcnn.nn.network import Network, check_images
from rawcnn.training.recipes import Recipe

KERNELS = Path(kernels.__file__).parent
# Files of `kernels` that compute nothing themselves: they check, measure, choose and differentiate
WITHOUT_ARITHMETIC = (
    "geometry", "precision", "compiler", "cost", "arguments", "selection", "replica", "finite", "empty",
    "differentiable",
)  # fmt: skip
LOSS = "loss"  # the name of the last operation, the cross-entropy
IMAGES = "images"  # RGB in [0,1]
GRADIENT = "∂"  # the prefix of a gradient's name: ∂conv1 is ∂L/∂(output of conv1)


class KernelCall(NamedTuple):
    """A function of `kernels` that an operation called, and where it is defined."""

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
            "preprocessed" images, parameters by path, and the gradient of the loss to each under "∂" and its name.
        places: Operation → the lines of the model's source that applied it, the innermost first.
        functions: Operation → the functions of `kernels` that computed it, in the order of their calls.
        seconds: Operation → how long its forward pass took.
        label: The number of the class that the loss is computed for.
        predicted: The number of the class with the largest logit.
        loss: The cross-entropy, without weight decay.
        recipe: The recipe whose loss it is.
    """

    network: Network
    operations: tuple[Applied, ...]
    tensors: Mapping[str, np.ndarray]
    places: Mapping[str, list[ModelCall]]
    functions: Mapping[str, list[KernelCall]]
    seconds: Mapping[str, float]
    label: int
    predicted: int
    loss: float
    recipe: Recipe


def record_image(network: Network, image: np.ndarray, label: int | None, recipe: Recipe) -> Recording:
    """Run a network on an image, forward and backward.

    Args:
        network: The network, in float32.
        image: [H,W,3], float RGB in [0,1].
        label: The number of the class that the loss is computed for; None: the predicted one.
        recipe: The recipe that determines label smoothing. (Auxiliary heads act in training alone.)

    Returns:
        The recording.

    Raises:
        ValueError: The logits are not finite.
    """
    images = check_images(image[None])  # [1,H,W,3]
    operations: list[Applied] = []
    places: dict[str, list[ModelCall]] = {}
    functions: dict[str, list[KernelCall]] = {}
    seconds: dict[str, float] = {}
    located = partial(LocatedTrace, operations=operations, places=places, functions=functions)
    forward = network.trace(network.variables, images, trace_type=located)
    if not np.isfinite(forward.logits).all():
        raise ValueError(f"{network.name} gives logits that are not finite; its weights are damaged: load others")
    predicted = int(np.argmax(forward.logits[0]))
    label = predicted if label is None else label
    network.trace(network.variables, images, trace_type=partial(TimedTrace, seconds=seconds))
    loss, logit_gradients = loss_and_gradient(network, operations, tf.constant([label]), recipe)
    parameters, activations = backward_pass(operations, logit_gradients)
    activations[IMAGES] = image_gradient(network, images, activations)
    tensors = _values(images, operations, parameters, activations)
    return Recording(
        network, tuple(operations), tensors, places, functions, seconds, label, predicted, float(loss), recipe
    )


def parts_of(operations: Sequence[Applied], activation: str) -> dict[str, tuple[str, int]]:
    """Return which operations read an activation, in order.

    Returns:
        The name of each part of the activation's gradient → (name of the operation that reads it, number of its input).
    """
    parts = {}
    for op in operations:
        for number, name in enumerate(op.input_names):
            if name == activation:
                which = f"[{number}]" if op.input_names.count(activation) > 1 else ""
                parts[f"{GRADIENT}{activation}←{op.name}{which}"] = (op.name, number)
    return parts


def gradient_parts(recording: Recording, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the parts of the gradients to those inputs of some layers that are read more than once.

    Returns:
        The parts by the names of `parts_of`; those of one activation x add up to ∂x.
    """
    activations = {name for op in recording.operations if op.name in layers for name in op.input_names}
    several = [parts for name in activations if len(parts := parts_of(recording.operations, name)) > 1]
    part_names = {read: part for parts in several for part, read in parts.items()}
    found: dict[str, np.ndarray] = {}
    for op in recording.operations:
        if all((op.name, number) not in part_names for number in range(len(op.inputs))):
            continue
        output_gradient = tf.constant(recording.tensors[GRADIENT + op.name][None])
        input_gradients, _ = GRADIENT_RULES[op.kind](op, output_gradient)
        for number, gradient in enumerate(input_gradients):
            if part := part_names.get((op.name, number)):
                found[part] = gradient[0].numpy()
    return found


def _values(images, operations, parameter_gradients, activation_gradients) -> dict[str, np.ndarray]:
    """Return all values and gradients by name, without the batch's axis."""
    read = {name: x for op in operations for name, x in zip(op.input_names, op.inputs, strict=True)}
    activations = {PREPROCESSED: read[PREPROCESSED], IMAGES: images} | {op.name: op.output for op in operations}
    values = {name: x[0].numpy() for name, x in activations.items()}
    for name, x in values.copy().items():  # an operation that the loss does not depend on has the gradient zero
        gradient = activation_gradients.get(name)
        values[GRADIENT + name] = np.zeros_like(x) if gradient is None else gradient[0].numpy()
    for op in operations:
        for parameter, value in op.parameters.items():
            path = f"{op.name}/{parameter}"
            values[path] = value.numpy()
            if path in parameter_gradients:
                values[GRADIENT + path] = parameter_gradients[path].numpy()
    return values


class LocatedTrace(AppliedTrace):
    """A trace that also records the source line of each operation, and the functions of `kernels` that it calls."""

    def __init__(self, *variables_and_images, places, functions, **options):
        super().__init__(*variables_and_images, **options)
        self._places, self._functions = places, functions

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        """Apply the kernel and record its place and its functions."""
        self._places[name] = calls_of_model()
        with calls_of_kernels() as called:
            result = super().apply(name, kind, kernel, inputs, parameters, **metadata)
        self._functions[name] = [one for one in dict.fromkeys(called) if one.name and not one.name.startswith("_")]
        return result


class TimedTrace(AppliedTrace):
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
    """Yield a list that receives the functions of `kernels` that are called within the block.

    It stays empty if the process is being profiled, because Python calls only one profiler.
    """
    called: list[KernelCall] = []

    def note_call(frame: FrameType, event: str, _) -> None:
        if event == "call" and _is_form(frame):
            called.append(enclosing_function(frame.f_code.co_filename, frame.f_code.co_firstlineno))

    if sys.getprofile() is not None:
        yield called
        return
    sys.setprofile(note_call)
    try:
        yield called
    finally:
        sys.setprofile(None)


def _is_form(frame: FrameType) -> bool:
    """Return whether a frame is a function of `kernels` that computes a result."""
    file = frame.f_code.co_filename
    return (
        file.startswith(str(KERNELS))
        and Path(file).stem not in WITHOUT_ARITHMETIC
        and frame.f_code.co_name != "<module>"
    )


@cache
def enclosing_function(file: str, line: int) -> KernelCall:
    """Return the function of a module that contains a line; functions within functions count as the outer one."""
    functions = [node for node in ast.parse(source_of(file)).body if isinstance(node, ast.FunctionDef)]
    for node in functions:
        if _first_line(node) <= line <= (node.end_lineno or line):
            return KernelCall(file, node.lineno, node.name)
    return KernelCall(file, line, "")  # a method, or a function that the module imports under another name


def _first_line(node: ast.FunctionDef) -> int:
    """Return the line on which a function begins, with its decorators."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
