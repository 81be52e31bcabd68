"""Network owns the variables; Pass is one walk through the model; Forward is what a walk returns.

A model is one plain function `model(net, images)` that calls layers; `net` is the Pass. Walking it with symbolic
images (`Blueprint`) does no arithmetic: it lists the variables to create and writes the ledger, one Operation a layer.
Every later walk runs the same function over the variables, so the profile, the paper tables and the receptive fields
describe the code that runs.
"""

from __future__ import annotations

import difflib
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

import kernels
from kernels.cost import Cost
from rawcnn.nn.initializers import Initial
from rawcnn.nn.limits import check_room
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.nn.receptive_field import Everywhere, Field, Margins, Window, union

PRECISIONS = {"float32": tf.float32, "bfloat16": tf.bfloat16}


class Forward(NamedTuple):
    """Everything that a walk knows. Compiled code drops what nobody asks for."""

    logits: tf.Tensor  # [B,classes], float32
    activations: dict[str, tf.Tensor]  # by the operation's name
    statistics: dict[str, tf.Tensor]  # path → new value of a batch-norm average, for the train step to assign


@dataclass(frozen=True)
class Parameter:
    """A variable to be: its path, shape and first value."""

    path: str
    shape: tuple[int, ...]
    initial: Initial
    trained: bool
    dtype: tf.DType = tf.float32  # that the walk computes with; the variable itself is always float32

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    @property
    def operation(self) -> str:
        """Name of the operation that it belongs to: `conv2/filters` belongs to `conv2`."""
        return self.path.rsplit("/", 1)[0]

    def create(self, seed: int) -> tf.Variable:
        """The variable, drawn from PCG64 keyed by seed and path: the same value on every machine, in any order."""
        generator = np.random.Generator(np.random.PCG64([seed, zlib.crc32(self.path.encode())]))
        value = self.initial(generator, self.shape).astype(np.float32, copy=False)
        return tf.Variable(value, trainable=self.trained, name=self.path.replace("/", "_"))


@dataclass(frozen=True)
class Operation:
    """One line of the ledger: what a layer read, what it gave, what that cost and what it sees."""

    name: str
    kind: str
    inputs: tuple[str, ...]  # names of the operations that it reads; "images" is the input
    input_shapes: tuple[tuple[int, ...], ...]
    output_shape: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    settings: dict[str, object]  # stride, padding, rate, …: what the shapes do not tell
    cost: Cost
    field: Field
    kernel: Callable[..., tf.Tensor] = dataclass_field(repr=False)  # (*inputs, *parameters) → output


class Ended(Exception):
    """A walk has all that was wanted of it."""


class Pass:
    """One walk through a model: hands out the variables, keeps the activations and the new statistics."""

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
        self._variables = variables
        self.images = images = tf.cast(images, dtype)
        self.data = [images]  # what gradients to parameters need no gradient of: the images, and their codes
        self._names = {id(images): "images"}
        self.train, self.seed, self.relu, self.dtype, self.devices = train, seed, relu, dtype, tuple(devices)
        self.activations: dict[str, tf.Tensor] = {}
        self.statistics: dict[str, tf.Tensor] = {}
        self.auxiliary: list[tf.Tensor] = []  # logits of auxiliary classifiers, in training
        self.wanted: frozenset[str] = frozenset()  # the walk ends when it has these activations; when empty, at its end

    def variable(
        self, path: str, shape: Sequence[int], initial: Initial, *, trained: bool = True, dtype: tf.DType | None = None
    ) -> tf.Tensor:
        """The variable's value, rounded to the precision of the walk (or to `dtype`); a narrower one stays as it is."""
        value = self._variables[path]
        if tuple(value.shape) != tuple(shape):
            raise ValueError(
                f"{path} was built with shape {tuple(value.shape)}, but this input asks for {tuple(shape)}: the "
                "network's fully connected layers fix its image size; create it with size= to use another"
            )
        wanted, held = dtype or self.dtype, tf.as_dtype(value.dtype)
        if isinstance(value, tf.Variable) or held.size > wanted.size:
            return tf.cast(value, wanted)
        return value

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
        **settings: Any,
    ) -> tf.Tensor:
        """Run `kernel(*inputs, *parameters)` and keep its result as activation `name`.

        A kernel may return (output, *more), as batch normalisation does with its moments: all of it is returned.
        `window`, `cost` (of the output's shape) and `settings` are for the ledger: this walk does not read them.
        """
        result = self._run(name, kernel, inputs, parameters)
        self._end_if_complete()
        return result

    def _run(self, name: str, kernel: Callable, inputs: Sequence[tf.Tensor], parameters: Sequence[tf.Tensor]):
        result = kernel(*inputs, *parameters)
        if name in self.activations:
            raise ValueError(f"two operations are named {name!r}; every name in a model must differ")
        output = result[0] if isinstance(result, tuple) else result
        self.activations[name] = output
        self._names[id(output)] = name  # `activations` keeps the tensor alive, so the id stays its own
        return result

    def _end_if_complete(self) -> None:
        if self.wanted and self.wanted <= self.activations.keys():
            raise Ended

    def name_of(self, x: tf.Tensor) -> str:
        """Name of the operation that made x; "images" for the input."""
        if id(x) not in self._names:
            raise ValueError(f"no layer made the tensor {x}; a model may only combine what layers return")
        return self._names[id(x)]

    def seed_of(self, name: str) -> tf.Tensor:
        """A random seed [2] of this step and this operation alone."""
        if self.seed is None:
            raise ValueError(
                f"{name} draws random numbers in training; pass forward(…, train=True, seed=step), another each step"
            )
        return tf.stack([self.seed[0], tf.bitwise.bitwise_xor(self.seed[1], zlib.crc32(name.encode()) & 0x7FFFFFFF)])


class Blueprint(Pass):
    """The walk that only draws: symbolic tensors in, the list of variables and the ledger out."""

    def __init__(self, images: tf.Tensor, **options):
        super().__init__({}, images, seed=tf.constant([0, 0]), **options)
        self.parameters: dict[str, Parameter] = {}
        self.ledger: list[Operation] = []
        self._fields = {"images": Field()}

    def variable(self, path, shape, initial, *, trained=True, dtype=None):
        if path in self.parameters:
            raise ValueError(f"two variables are named {path!r}; every path in a model must differ")
        self.parameters[path] = Parameter(path, tuple(shape), initial, trained, dtype or self.dtype)
        return tf.raw_ops.Placeholder(dtype=dtype or self.dtype, shape=shape)

    def apply(
        self, name, kind, kernel, inputs, parameters=(), *, window=None, cost=lambda output_shape: Cost(), **settings
    ):
        try:
            result = self._run(name, kernel, inputs, parameters)
        except ValueError as error:
            shapes = " and ".join(str(tuple(x.shape)) for x in inputs)
            height, width = self.images.shape[1:3]
            raise ValueError(f"{name} on {shapes}: {error} (the images are {height}×{width})") from error
        output_shape = tuple(self.activations[name].shape)
        sources = tuple(self.name_of(x) for x in inputs)
        seen = union([self._fields[source] for source in sources])
        self._fields[name] = window.over(seen, inputs[0].shape[1:3]) if window else seen
        self.ledger.append(
            Operation(
                name,
                kind,
                sources,
                tuple(tuple(x.shape) for x in inputs),
                output_shape,
                tuple(p for p in self.parameters.values() if p.operation == name),
                settings,
                cost(output_shape),
                self._fields[name],
                kernel,
            )
        )
        self._end_if_complete()
        return result


def draw(
    model: Callable,
    image_shape: Sequence[int],
    *,
    train: bool = False,
    dtype=tf.float32,
    devices: Sequence[str] = (),
    layers: Sequence[str] = (),
) -> Blueprint:
    """Walk `model` over symbolic images of `image_shape` [B,H,W,3]: no arithmetic, no variables.

    With `layers` the drawing ends with the last of them: what comes after need not fit the images.
    """
    with tf.Graph().as_default(), suppress(Ended):
        images = tf.raw_ops.Placeholder(dtype=dtype, shape=image_shape)
        blueprint = Blueprint(images, train=train, dtype=dtype, devices=devices)
        blueprint.wanted = frozenset(layers)
        model(blueprint, images)
    return blueprint


class Network:
    """A model with its variables: `network(images)` is the logits."""

    def __init__(
        self,
        name: str,
        model: Callable[[Pass, tf.Tensor], tf.Tensor],
        *,
        size: int,
        classes: int,
        seed: int = 0,
        preprocessing: str = "none",
        precision: str = "float32",
        devices: Sequence[str] = (),
        settings: Mapping[str, object] | None = None,
    ):
        if preprocessing not in PREPROCESSING:
            raise ValueError(f"preprocessing is {preprocessing!r}; expected one of {', '.join(PREPROCESSING)}")
        check_precision(precision)
        check_devices(devices)
        self.name, self.model, self.input_size, self.classes = name, model, size, classes
        self.preprocessing, self.precision, self.devices = preprocessing, precision, tuple(devices)
        self.settings = dict(settings or {})  # what `rawcnn.create` was told, for files that describe the network
        self.labels: tuple[str, ...] | None = None  # names of the classes, where known
        blueprint = draw(model, (1, size, size, 3), train=True, devices=devices)
        self.parameters = blueprint.parameters  # what each variable was made from, by path
        self.training_ledger = tuple(blueprint.ledger)  # with the auxiliary heads
        self.ledger = tuple(draw(model, (1, size, size, 3)).ledger)
        check_room(name, size, self.parameters.values(), self.ledger)
        self.variables = {path: p.create(seed) for path, p in blueprint.parameters.items()}
        self.auxiliary = tuple(blueprint.name_of(logits) for logits in blueprint.auxiliary)  # activations, in training

    @property
    def trained_variables(self) -> dict[str, tf.Variable]:
        """The variables that gradients move: all but the batch-norm averages."""
        return {path: v for path, v in self.variables.items() if v.trainable}

    @property
    def parameter_count(self) -> int:
        """Trained parameters, as the papers count."""
        return sum(int(np.prod(v.shape)) for v in self.trained_variables.values())

    @property
    def head(self) -> str:
        """Name of the layer whose activations are the logits."""
        return self.ledger[-1].name

    def operation(self, name: str) -> Operation:
        """The ledger's entry for `name`. Raises ValueError with the names that are near."""
        return find_operation(self.ledger, name)

    def walk(
        self,
        variables: Mapping[str, tf.Tensor | tf.Variable],
        images: tf.Tensor,
        *,
        train: bool = False,
        seed: int | tf.Tensor | None = None,
        relu: Callable[[tf.Tensor], tf.Tensor] = kernels.relu,
        kind: Callable[..., Pass] = Pass,
    ) -> Forward:
        """`forward` as a pure function of (variables, images); `kind` makes another kind of walk than a Pass."""
        net = self._begin(kind, variables, images, train=train, seed=seed, relu=relu)
        logits = self.model(net, net.images)
        return Forward(tf.cast(logits, tf.float32), net.activations, net.statistics)

    def activations(
        self,
        images,
        layers: Sequence[str],
        *,
        relu: Callable[[tf.Tensor], tf.Tensor] = kernels.relu,
        kind: Callable[..., Pass] = Pass,
        variables: Mapping[str, tf.Tensor | tf.Variable] | None = None,
    ) -> dict[str, tf.Tensor]:
        """The activations of some layers for images [B,H,W,3] in [0,1], by a walk that ends with the last of them.

        What comes after them is not computed, not even traced, and need not fit the images: a convolution of AlexNet
        takes images of any size, though its classifier does not. `variables` may be others than the network's own.
        ValueError for an unknown layer.
        """
        net = self._begin(kind, variables or self.variables, images, relu=relu)
        net.wanted = frozenset(self.operation(layer).name for layer in layers)
        with suppress(Ended):
            self.model(net, net.images)
        return {layer: net.activations[layer] for layer in layers}

    def _begin(self, kind: Callable[..., Pass], variables, images, *, seed=None, **options) -> Pass:
        """A walk of this kind, at its start: over preprocessed images, in the network's precision or the kind's own."""
        if seed is not None and len(tf.convert_to_tensor(seed).shape) == 0:
            seed = tf.stack([tf.cast(seed, tf.int32), 0])
        inputs, dtype = PREPROCESSING[self.preprocessing](check_images(images)), PRECISIONS[self.precision]
        return kind(variables, inputs, seed=seed, dtype=dtype, devices=self.devices, **options)

    def forward(self, images, train: bool = False, seed=None, relu=kernels.relu) -> Forward:
        """Walk the network over images [B,H,W,3], float RGB in [0,1].

        `train` uses the batch's own moments and drops units; `seed` (an int, or an int tensor [2]) then draws the
        dropout masks. `relu` is the rectifier and its backward rule: hand in `kernels.guided_relu` for guided
        backpropagation.
        """
        return self.walk(self.variables, images, train=train, seed=seed, relu=relu)

    def __call__(self, images) -> tf.Tensor:
        """Images [B,H,W,3], float RGB in [0,1] → logits [B,classes]."""
        return self.forward(images).logits

    def __repr__(self) -> str:
        size, count = self.input_size, self.parameter_count
        return f"Network({self.name}, {self.classes} classes, {size}×{size}, {count:,} parameters)"


def check_images(images) -> tf.Tensor:
    """Images as a float32 tensor [B,H,W,3]; ValueError for anything else."""
    images = tf.convert_to_tensor(images)
    if len(images.shape) != 4 or images.shape[-1] != 3:
        raise ValueError(f"images have shape {images.shape}; expected a batch [B,H,W,3] of RGB images")
    if not images.dtype.is_floating:
        raise ValueError(f"images are {images.dtype.name}; expected float RGB in [0,1]: divide bytes by 255")
    return tf.cast(images, tf.float32)


def check_precision(precision: str) -> str:
    """The precision; ValueError for an unknown one."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return precision


def check_devices(devices: Sequence[str]) -> None:
    """ValueError where a device, such as "GPU:0", is not one of this machine's."""
    present = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()] if devices else []
    absent = [name for name in devices if name.upper().removeprefix("/").removeprefix("DEVICE:") not in present]
    if absent:
        raise ValueError(f"this machine has no device {', '.join(absent)}; it has {', '.join(present)}")


def find_operation(ledger: Sequence[Operation], name: str) -> Operation:
    """The operation called `name`; ValueError that lists similar names."""
    by_name = {operation.name: operation for operation in ledger}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=5, cutoff=0.3) or list(by_name)[:5]
        raise ValueError(f"there is no layer {name!r}; names near it are {', '.join(near)}")
    return by_name[name]
