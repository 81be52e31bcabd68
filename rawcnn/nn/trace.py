"""A trace runs a model function once and records what it does.

A model is one plain function `model(net, images)` that calls layers; `net` is the trace. A layer asks it for variables
(`net.variable`) and applies kernels through it (`net.apply`). There are two basic kinds; others, such as `Folded` and
`Deconvnet`, derive from the first:

- `Trace` computes with real variables. It keeps every activation by name and every new batch-norm average by path.
- `SymbolicTrace` does no arithmetic. It lists the parameters that the model needs and its operations: name, kind,
  inputs, shapes, parameters, cost, receptive field and kernel.

Profiles, paper tables, diagrams, receptive-field crops and Keras twins are all read off that list of operations, so
they describe the code that runs.
"""

from __future__ import annotations

import difflib
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import kernels
from kernels.cost import Cost
from kernels.precision import wide_type
from rawcnn.nn.initializers import Initial
from rawcnn.nn.receptive_field import Everywhere, Margins, ReceptiveField, Window, union

PRECISIONS = {"float32": tf.float32, "bfloat16": tf.bfloat16, "float64": tf.float64}


class Forward(NamedTuple):
    """The result of a forward pass. Compiled code drops the parts that are not used.

    Attributes:
        logits: float32 [B,classes], float64 in a float64 network.
        activations: The output of each operation, by its name.
        statistics: Path → new value of a batch-norm average, which the training step assigns.
    """

    logits: tf.Tensor
    activations: dict[str, tf.Tensor]
    statistics: dict[str, tf.Tensor]


@dataclass(frozen=True)
class Parameter:
    """The description of a variable that a model needs: its path, shape and initial value."""

    path: str
    shape: tuple[int, ...]
    initial: Initial
    trained: bool
    dtype: tf.DType = tf.float32  # the type that the trace computes with; a bfloat16 network's variables are float32

    @property
    def count(self) -> int:
        """The number of its values."""
        return int(np.prod(self.shape))

    @property
    def operation(self) -> str:
        """The name of the operation that it belongs to: `conv2` for `conv2/filters`."""
        return self.path.rsplit("/", 1)[0]

    def create(self, seed: int, dtype: tf.DType = tf.float32) -> tf.Variable:
        """Create the variable, with float32 values drawn from PCG64 keyed by seed and path.

        The values depend neither on the machine nor on the order in which variables are created. A float64 variable has
        the values of the float32 one.
        """
        generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(self.path.encode())]))
        value = self.initial(generator, self.shape).astype(np.float32, copy=False)
        value = value.astype(dtype.as_numpy_dtype, copy=False)
        return tf.Variable(value, trainable=self.trained, name=self.path.replace("/", "_"))


@dataclass(frozen=True)
class Operation:
    """One operation of a model: what it reads, what it returns, what that costs and which pixels it sees."""

    name: str
    kind: str
    inputs: tuple[str, ...]  # names of the operations that it reads; "images" is the network's input
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    settings: dict[str, object]  # stride, padding, rate, …: what the shapes do not show
    cost: Cost
    receptive_field: ReceptiveField
    kernel: Callable[..., tf.Tensor] = field(repr=False)  # (*inputs, *parameters) → output


class TraceComplete(Exception):
    """Raised inside a model function to leave it early: all requested activations are computed."""


class Trace:
    """A run of a model function over real variables; it keeps the activations and the new statistics."""

    def __init__(
        self,
        variables: Mapping[str, tf.Tensor | tf.Variable],
        images: tf.Tensor,
        *,
        train: bool = False,
        seed: tf.Tensor | None = None,
        relu: Callable[[tf.Tensor], tf.Tensor] = kernels.relu,
        dtype: tf.DType = tf.float32,
        devices: Sequence[str] = (),
    ):
        """Prepare to run a model over preprocessed images.

        Args:
            variables: The model's variables by path.
            images: [B,H,W,3].
            train: Use the batch's own moments and drop units.
            seed: An int tensor [2] that random numbers are drawn from; only training needs it.
            relu: The rectifier with its backward rule.
            dtype: The type to compute with.
            devices: The devices that layers are split over.
        """
        self._variables = variables
        self.images = images = tf.cast(images, dtype)
        self.data = [images]  # tensors that depend on no parameter: the images and their codes
        self._names = {id(images): "images"}
        self.train, self.seed, self.relu, self.dtype, self.devices = train, seed, relu, dtype, tuple(devices)
        self.wide = wide_type(images)  # of moments and of weights that kernels round themselves
        self.activations: dict[str, tf.Tensor] = {}
        self.statistics: dict[str, tf.Tensor] = {}
        self.auxiliary: list[tf.Tensor] = []  # logits of auxiliary classifiers, in training
        self.requested: frozenset[str] = frozenset()  # the trace stops when it has these activations; empty: at the end

    def variable(
        self,
        path: str,
        shape: Sequence[int | None],
        initial: Initial,
        *,
        trained: bool = True,
        dtype: tf.DType | None = None,
    ) -> tf.Tensor:
        """Return the value of a variable.

        Args:
            path: The variable's path, such as "conv2/filters".
            shape: The shape that the layer needs for this input; None for a length that is unknown while tracing.
            initial: How its first value is drawn. Only a symbolic trace reads this and `trained`.
            trained: Whether gradients move it.
            dtype: The type to cast it to, by default the trace's. A bfloat16 tensor keeps its type, because its
                kernel widens it if necessary.

        Raises:
            ValueError: The variable has another shape, because the images have another size.
        """
        value = self._variables[path]
        if not tf.TensorShape(shape).is_compatible_with(value.shape):
            raise ValueError(
                f"{path} was built with shape {tuple(value.shape)}, but this input needs {tuple(shape)}: the "
                "network's fully connected layers fix its image size; give images of that size, or create the network "
                "for another"
            )
        target, present = dtype or self.dtype, tf.as_dtype(value.dtype)
        if isinstance(value, tf.Variable) or present not in (target, tf.bfloat16):
            return tf.cast(value, target)
        return value

    def apply(
        self,
        name: str,
        kind: str,
        kernel: Callable[..., tf.Tensor],
        inputs: Sequence[tf.Tensor],
        parameters: Sequence[tf.Tensor] = (),
        **metadata: Any,
    ) -> Any:
        """Run `kernel(*inputs, *parameters)` and keep its result as activation `name`.

        Args:
            name: The operation's name; each name in a model must differ.
            kind: The kind of layer: "conv", "max_pool", ….
            kernel: A function of tensors. It may return (output, *more), as batch normalization does with its moments.
            inputs: Tensors that other layers returned.
            parameters: Values that `variable` returned.
            **metadata: What `SymbolicTrace.apply` records about the operation; this trace does not read it.

        Returns:
            What the kernel returns.
        """
        result = self._run(name, kernel, inputs, parameters)
        self._stop_if_complete()
        return result

    def _run(self, name: str, kernel: Callable, inputs: Sequence[tf.Tensor], parameters: Sequence[tf.Tensor]):
        result = kernel(*inputs, *parameters)
        if name in self.activations:
            raise ValueError(f"two operations are named {name!r}; every name in a model must differ")
        output = result[0] if isinstance(result, tuple) else result
        self.activations[name] = output
        self._names[id(output)] = name  # `activations` keeps the tensor alive, so no other tensor gets its id
        return result

    def _stop_if_complete(self) -> None:
        if self.requested and self.requested <= self.activations.keys():
            raise TraceComplete

    def name_of(self, x: tf.Tensor) -> str:
        """Return the name of the operation that computed x, "images" for the input."""
        if id(x) not in self._names:
            raise ValueError(f"no layer made the tensor {x}; a model may only combine what layers return")
        return self._names[id(x)]

    def operation_seed(self, name: str) -> tf.Tensor:
        """Return a random seed [2] for this step and this operation alone."""
        if self.seed is None:
            raise ValueError(
                f"{name} draws random numbers in training; pass train=True with a seed, seed=step, another each step"
            )
        return tf.stack([self.seed[0], tf.bitwise.bitwise_xor(self.seed[1], zlib.crc32(name.encode()) & 0x7FFFFFFF)])


class SymbolicTrace(Trace):
    """A run of a model function over symbolic tensors: it lists the parameters and the operations."""

    def __init__(self, images: tf.Tensor, **options: Any):
        super().__init__({}, images, seed=tf.constant([0, 0]), **options)
        self.parameters: dict[str, Parameter] = {}
        self._parameters_of: defaultdict[str, list[Parameter]] = defaultdict(list)  # by the operation's name
        self.operations: list[Operation] = []
        self._receptive_fields = {"images": ReceptiveField()}

    def variable(self, path, shape, initial, *, trained=True, dtype=None):
        """Record a parameter and return a placeholder for it."""
        if path in self.parameters:
            raise ValueError(f"two variables are named {path!r}; every path in a model must differ")
        parameter = Parameter(path, tuple(shape), initial, trained, dtype or self.dtype)
        self.parameters[path] = parameter
        self._parameters_of[parameter.operation].append(parameter)
        return tf.raw_ops.Placeholder(dtype=dtype or self.dtype, shape=shape)

    def apply(
        self,
        name: str,
        kind: str,
        kernel: Callable[..., tf.Tensor],
        inputs: Sequence[tf.Tensor],
        parameters: Sequence[tf.Tensor] = (),
        *,
        window: Window | Margins | Everywhere | None = None,
        cost: Callable[[tuple[int, ...]], Cost] = lambda output_shape: Cost(),
        seed: tf.Tensor | None = None,
        **settings: Any,
    ) -> tf.Tensor:
        """Run the kernel symbolically and record the operation.

        Args:
            name, kind, kernel, inputs, parameters: As in `Trace.apply`.
            window: How the operation enlarges the receptive field; None leaves it as it is.
            cost: The cost as a function of the output's shape.
            seed: What the operation draws its random mask from, in training; another in each step, so not recorded.
            **settings: Stride, padding, rate, …: what the shapes do not show.

        Raises:
            ValueError: The kernel refuses the shapes; the message names the operation.
        """
        try:
            result = self._run(name, kernel, inputs, parameters)
        except ValueError as error:
            shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
            height, width = self.images.shape[1:3]
            raise ValueError(f"{name} on {shapes}: {error} (the images are {height}×{width})") from error
        output_shape = tuple(self.activations[name].shape)
        sources = tuple(self.name_of(x) for x in inputs)
        seen = union([self._receptive_fields[source] for source in sources])
        self._receptive_fields[name] = window.over(seen, inputs[0].shape[1:3]) if window else seen
        self.operations.append(
            Operation(
                name=name,
                kind=kind,
                inputs=sources,
                input_shapes=tuple(tuple(x.shape) for x in inputs),
                output_shape=output_shape,
                parameters=tuple(self._parameters_of[name]),
                settings=settings,
                cost=cost(output_shape),
                receptive_field=self._receptive_fields[name],
                kernel=kernel,
            )
        )
        self._stop_if_complete()
        return result


def symbolic_trace(
    model: Callable,
    image_shape: Sequence[int],
    *,
    train: bool = False,
    dtype=tf.float32,
    devices: Sequence[str] = (),
    layers: Sequence[str] = (),
) -> SymbolicTrace:
    """Trace a model function over symbolic images, without arithmetic and without variables.

    Args:
        model: The model function `model(net, images)`.
        image_shape: [B,H,W,3].
        train: Trace the training graph, with dropout and auxiliary heads.
        dtype: The type to compute with.
        devices: The devices that layers are split over.
        layers: Stop after the last of these operations; what comes after them need not fit the images.

    Returns:
        The trace, with `.parameters` and `.operations`.

    Raises:
        ValueError: The images do not fit, or the model has no operation of a name in `layers`.
    """
    with tf.Graph().as_default(), suppress(TraceComplete):
        images = tf.raw_ops.Placeholder(dtype=dtype, shape=image_shape)
        trace = SymbolicTrace(images, train=train, dtype=dtype, devices=devices)
        trace.requested = frozenset(layers)
        model(trace, images)
    for layer in layers:
        find_operation(trace.operations, layer)
    return trace


def layers_up_to(last: str | None) -> tuple[str, ...]:
    """Return the `layers` of a symbolic trace that ends with the operation `last`; none for a complete trace.

    Raises:
        ValueError: It is no name.
    """
    if not isinstance(last, str | None):
        raise ValueError(f"last is {last!r}; expected the name of an operation, such as pool5, or None")
    return () if last is None else (last,)


def check_precision(precision: str) -> str:
    """Return the precision. Raises ValueError for an unknown one."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return precision


def find_operation(operations: Sequence[Operation], name: str) -> Operation:
    """Return the operation called `name`. Raises ValueError that lists similar names."""
    by_name = {operation.name: operation for operation in operations}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=5, cutoff=0.3) or list(by_name)[:5]
        raise ValueError(f"there is no layer {name!r}; names near it are {', '.join(near)}")
    return by_name[name]
