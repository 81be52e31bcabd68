"""The workloads: steps of rawcnn as pure functions of arrays, with nothing captured and nothing random inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
import rawcnn
from benchmarks.races.kernels import KERNELS, KernelCase
from benchmarks.stablehlo.arrays import CUDNN, MOMENTUM, RATE, Argument
from benchmarks.twins.specification import Model, model_of
from rawcnn.attacks.ball import Ball
from rawcnn.attacks.common import loss_gradient
from rawcnn.nn.folding import Fold, Folded, fold
from rawcnn.nn.network import Network
from rawcnn.nn.trace import PRECISIONS, Operation
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, TrainStep
from rawcnn.visualize import objectives
from rawcnn.visualize.ascent_runtime import FoldedScore
from rawcnn.visualize.optimization import AscentSettings, ascent_step
from rawcnn.visualize.regularization import initial_parameters

STEPS, EPSILON, STEP = 40, 8 / 255, 2 / 255  # of PGD


@dataclass(frozen=True)
class Workload:
    """One program for any batch: `function` of `arguments(batch)`.

    `carried` maps an output to the argument that it is at the next call: weights and velocities of a training step.
    `flops` are of one image; `moved(batch)` are the bytes that the layers of a batch read and write at least. Outputs
    `by_length` are compared by their length alone: where a ReLU within rounding of zero turns single numbers.
    """

    name: str
    job: str  # "inference", "training", "pgd", "visualize" or "kernel"
    precision: str
    function: Callable[..., Sequence[tf.Tensor]]
    arguments: Callable[[int], list[Argument]]
    outputs: tuple[str, ...]
    carried: tuple[tuple[int, int], ...]
    flops: float
    moved: Callable[[int], int]
    model: Model | None  # for the peers
    paths: dict[str, tuple[int, ...]]  # the variables that arguments are made from, of a network
    by_length: tuple[str, ...] = ()
    form: str = ""  # which of several that do the same, and are run side by side
    case: KernelCase | None = None  # of a kernel


def _images(network: Network, batch: int) -> Argument:
    return Argument("images", (batch, network.input_size, network.input_size, 3), "float32", "uniform")


def _labels(batch: int) -> Argument:
    return Argument("labels", (batch,), "int32", "labels")


def _variables(network: Network) -> list[Argument]:
    return [_variable(path, v.shape, path.rsplit("/", 1)[1]) for path, v in network.variables.items()]


def _variable(path: str, shape: Sequence[int], draw: str, **told: Any) -> Argument:
    return Argument(path, tuple(shape), "float32", draw, axes=CUDNN if len(shape) == 4 else (), **told)


def _ready(arguments: Sequence[Argument], precision: str) -> list[Argument]:
    """Products and weights that stay, in the precision that they are multiplied in; as in `rawcnn.program`."""
    ready = ("folded", "filters", "weights")
    return [replace(a, dtype=precision) if a.draw in ready else a for a in arguments]


class _Products:
    """A network's weights as arguments, batch norms folded, and back into what a `Folded` walk takes."""

    def __init__(self, network: Network, spare: Sequence[str] = ()):
        made = fold(network, spare)
        self.network, self.norms = network, made.norms
        self.arguments: list[Argument] = []
        readers = {op.inputs[0]: op for op in network.operations if op.kind == "batch_norm"}
        for name, (filters, bias) in made.convolutions.items():
            norm = readers[name]
            told: dict[str, Any] = {"norm": norm.name, "epsilon": norm.settings["epsilon"]}
            for leaf, value in (("filters", filters), ("bias", bias)):
                self.arguments.append(_variable(f"{name}/{leaf}", value.shape, "folded", **told))
        self.convolutions = tuple(made.convolutions)
        own = {*self.convolutions, *self.norms}
        self.rest = [a for a in _variables(network) if a.name.rsplit("/", 1)[0] not in own]
        self.arguments = _ready(self.arguments + self.rest, network.precision)

    def walk(self, values: Sequence[tf.Tensor]) -> tuple[Fold, dict[str, tf.Tensor]]:
        """(the fold, the other variables by path) of these values of `arguments`."""
        count = 2 * len(self.convolutions)
        pairs = {name: list(values[2 * k : 2 * k + 2]) for k, name in enumerate(self.convolutions)}
        rest = {a.name: value for a, value in zip(self.rest, values[count:], strict=True)}
        return Fold(pairs, self.norms), {**self.network.variables, **rest}

    def model(self, values: Sequence[tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        """Images → logits."""
        products, variables = self.walk(values)
        kind = partial(Folded, fold=products, precision=self.network.precision)
        return lambda images: self.network.trace(variables, images, trace_type=kind).logits


def inference(name: str, precision: str, **settings: Any) -> Workload:
    """Images → logits, batch norms folded."""
    network = rawcnn.create(name, precision=precision, **settings)
    products = _Products(network)

    def function(*arguments):
        *values, images = arguments
        return [products.model(values)(images)]

    return Workload(
        f"{name} inference {precision}", "inference", precision, function,
        lambda batch: [*products.arguments, _images(network, batch)], ("logits",), (),
        _flops(network.operations), partial(_moved, network, network.operations, 1), model_of(network), _paths(network),
    )  # fmt: skip


def training(name: str, precision: str, **settings: Any) -> Workload:
    """One step of SGD with momentum → the loss, new variables, new velocities."""
    network = rawcnn.create(name, precision=precision, **settings)
    recipe = Recipe("race", "ours", batch=1, epochs=1, rate=RATE, momentum=MOMENTUM)
    paths, slots = list(network.variables), list(State.begin(network, recipe).slots)
    step = TrainStep(network, recipe)
    velocities = [_variable(s, network.variables[s.rsplit("/", 1)[0]].shape, "zeros") for s in slots]

    def function(*arguments):
        *values, images, labels, seed, rate = arguments
        variables, old = dict(zip(paths, values, strict=False)), dict(zip(slots, values[len(paths) :], strict=True))
        new, metrics = step.update(State(variables, old, {}), images, labels, seed, rate)
        return [metrics["loss"], *(new.variables[path] for path in paths), *(new.slots[slot] for slot in slots)]

    def arguments(batch: int) -> list[Argument]:
        seed, rate = Argument("seed", (2,), "int32", "zeros"), Argument("rate", (), "float32", "rate")
        return [*_variables(network), *velocities, _images(network, batch), _labels(batch), seed, rate]

    outputs = ("loss", *paths, *slots)
    carried = tuple((k + 1, k) for k in range(len(outputs) - 1))
    return Workload(
        f"{name} training {precision}", "training", precision, function, arguments, outputs, carried,
        _flops(network.training_operations, train=True), partial(_moved, network, network.training_operations, 3),
        model_of(network), _paths(network), tuple(slots),
    )  # fmt: skip


def pgd(name: str, precision: str, **settings: Any) -> Workload:
    """PGD of 40 steps in L∞, all taken → how the images moved, and the loss of each where they went."""
    network = rawcnn.create(name, precision=precision, **settings)
    products = _Products(network)

    def function(*arguments):
        *values, images, labels = arguments
        model = products.model(values)

        ball = Ball("linf")

        def move(k, x):
            gradient, _ = loss_gradient(model, x, labels, False)
            x = ball.project(x + STEP * ball.steepest(gradient), images, EPSILON)
            return k + 1, tf.clip_by_value(x, 0.0, 1.0)

        attacked = tf.while_loop(lambda k, x: k < STEPS, move, (0, images))[1]
        return [attacked - images, kernels.cross_entropy(model(attacked), labels)]

    return Workload(
        f"{name} pgd{STEPS} {precision}", "pgd", precision, function,
        lambda batch: [*products.arguments, _images(network, batch), _labels(batch)],
        ("moved", "loss"), (), 2 * STEPS * _flops(network.operations),
        partial(_moved, network, network.operations, 2 * STEPS), model_of(network), _paths(network), ("moved",),
    )  # fmt: skip


def visualize(name: str, layer: str, precision: str, **settings: Any) -> Workload:
    """One step of `rawcnn.visualize.optimize` on a channel of `layer` → the values, and what Adam moves."""
    network = rawcnn.create(name, precision=precision, **settings)
    products = _Products(network, [layer])
    size, objective = network.input_size, objectives.channel(network, layer, 0)
    ascent, score = AscentSettings(size=size), FoldedScore(network, objective)

    def function(*arguments):
        *values, z, mean, square, number, moves = arguments
        score.fold, score.variables = products.walk(values)
        rows = [tf.constant(array) for array in objective.repeated_rows(z.shape[0])]
        values_of = partial(score, rows=rows)
        z, mean, square, value, _ = ascent_step(values_of, ascent, z, mean, square, number, moves)
        return [value, z, mean, square]

    def arguments(batch: int) -> list[Argument]:
        state = initial_parameters(ascent.regularization, size, [[0, 0]] * batch).shape
        return [
            *products.arguments,
            Argument("z", state, "float32", "normal"),
            *(Argument(slot, state, "float32", "zeros") for slot in ("mean", "square")),
            Argument("number", (), "float32", "ones"),
            Argument("moves", (batch, 2, 3), "float32", "moves"),
        ]

    count = len(products.arguments)
    seen = network.operations[: [operation.name for operation in network.operations].index(layer) + 1]
    return Workload(
        f"{name} {layer} visualize {precision}", "visualize", precision, function, arguments,
        ("values", "z", "mean", "square"), tuple((k + 1, count + k) for k in range(3)), 2 * _flops(seen),
        partial(_moved, network, seen, 2), None, _paths(network), ("z", "mean", "square"),
    )  # fmt: skip


def kernel(case: KernelCase, form: str, precision: str) -> Workload:
    """A kernel's output and gradients, from an upstream gradient; that of an image is not taken, as in training."""
    functions, inputs, cost = KERNELS[case.kernel](case, tf.as_dtype(precision))
    image = case.channels == 3

    def function(*arguments):
        *tensors, upstream = arguments
        with tf.GradientTape() as tape:
            tape.watch(tensors[image:])
            y = functions[form](*tensors)
        return [y, *tape.gradient(y, tensors[image:], output_gradients=upstream)]

    def arguments(batch: int) -> list[Argument]:
        shapes = [(batch, *inputs[0].shape[1:]), *(tuple(i.shape) for i in inputs[1:])]
        draws = [
            "distinct" if "pool" in case.kernel else "normal",
            *("filters" if case.kernel == "conv2d" else "ones" for _ in inputs[1:]),
        ]
        named = [
            Argument(f"input{k}", shape, given.dtype.name, how, axes=CUDNN if how == "filters" else ())
            for k, (shape, given, how) in enumerate(zip(shapes, inputs, draws, strict=True))
        ]
        return [*named, Argument("upstream", (batch, *case.output_shape[1:]), precision, "normal")]

    names = ("y", *(f"gradient{k}" for k in range(image, len(inputs))))
    flops = (cost.flops + (cost.macs * 2 if image else cost.backward_flops)) / case.batch

    def moved(batch: int) -> int:
        """Inputs and upstream gradient are read, the output and a gradient of each input written."""
        *shapes, upstream = (prod(a.shape) for a in arguments(batch))
        return tf.as_dtype(precision).size * 2 * (sum(shapes) + upstream)

    return Workload(
        f"{case} {precision}",
        "kernel",
        precision,
        function,
        arguments,
        names,
        (),
        flops,
        moved,
        None,
        {},
        form=form,
        case=case,
    )


def _paths(network: Network) -> dict[str, tuple[int, ...]]:
    return {path: tuple(v.shape) for path, v in network.variables.items()}


def _flops(operations: Sequence[Operation], train: bool = False) -> float:
    """Of one image, by the operations."""
    costs = [operation.cost for operation in operations]
    return float(np.sum([c.flops + (c.backward_flops if train else 0) for c in costs]))


def _moved(network: Network, operations: Sequence[Operation], passes: int, batch: int) -> int:
    """Bytes that the layers read and write at least, in so many passes of a batch; the operations is of one image."""
    element = PRECISIONS[network.precision].size
    maps = sum(prod(shape) for o in operations for shape in (*o.input_shapes, o.output_shape))
    weights = sum(p.count * p.dtype.size for o in operations for p in o.parameters)
    return passes * (element * maps * batch + weights)
