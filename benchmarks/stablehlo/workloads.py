"""The workloads: steps of rawcnn as pure functions of arrays, without captured variables and random numbers."""

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
from benchmarks.twins.specification import ModelSpecification, model_of
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
    """One program for any batch: `function` of `arguments(batch)`."""

    name: str
    job: str  # "inference", "training", "pgd", "visualize" or "kernel"
    precision: str
    function: Callable[..., Sequence[tf.Tensor]]
    arguments: Callable[[int], list[Argument]]
    outputs: tuple[str, ...]
    carried: tuple[tuple[int, int], ...]  # (output, argument of the next call): weights and velocities in training
    flops: float  # per image
    moved: Callable[[int], int]  # batch → lower bound of the bytes that the layers read and write
    model: ModelSpecification | None  # for the peers
    paths: dict[str, tuple[int, ...]]  # shapes of the network's variables, from which arguments are computed
    by_length: tuple[str, ...] = ()  # outputs compared only by length, because a ReLU near zero changes single values
    form: str = ""  # the form of a kernel; the forms of a case race against each other
    case: KernelCase | None = None  # of a kernel


def _images(network: Network, batch: int) -> Argument:
    return Argument("images", (batch, *network.image_size, 3), "float32", "uniform")


def _labels(batch: int) -> Argument:
    return Argument("labels", (batch,), "int32", "labels")


def _variables(network: Network) -> list[Argument]:
    return [_variable(path, v.shape, path.rsplit("/", 1)[1]) for path, v in network.variables.items()]


def _variable(path: str, shape: Sequence[int], draw: str, **fields: Any) -> Argument:
    return Argument(path, tuple(shape), "float32", draw, axes=CUDNN if len(shape) == 4 else (), **fields)


def _in_precision(arguments: Sequence[Argument], precision: str) -> list[Argument]:
    """Convert constant filters and weights to the precision of their multiplication, as in `rawcnn.program`."""
    converted = ("folded", "filters", "weights")
    return [replace(a, dtype=precision) if a.draw in converted else a for a in arguments]


class _FoldedWeights:
    """A network's weights with folded batch norms, as arguments of a program, and as the inputs of a `Folded` trace."""

    def __init__(self, network: Network, spare: Sequence[str] = ()):
        made = fold(network, spare)
        self.network, self.norms = network, made.norms
        self.arguments: list[Argument] = []
        readers = {op.inputs[0]: op for op in network.operations if op.kind == "batch_norm"}
        for name, (filters, bias) in made.convolutions.items():
            norm = readers[name]
            fields: dict[str, Any] = {"norm": norm.name, "epsilon": norm.settings["epsilon"]}
            for leaf, value in (("filters", filters), ("bias", bias)):
                self.arguments.append(_variable(f"{name}/{leaf}", value.shape, "folded", **fields))
        self.convolutions = tuple(made.convolutions)
        covered = {*self.convolutions, *self.norms}
        self.rest = [a for a in _variables(network) if a.name.rsplit("/", 1)[0] not in covered]
        self.arguments = _in_precision(self.arguments + self.rest, network.precision)

    def fold(self, values: Sequence[tf.Tensor]) -> tuple[Fold, dict[str, tf.Tensor]]:
        """Return (the fold, the other variables by path) for these values of `arguments`."""
        count = 2 * len(self.convolutions)
        pairs = {name: list(values[2 * k : 2 * k + 2]) for k, name in enumerate(self.convolutions)}
        rest = {a.name: value for a, value in zip(self.rest, values[count:], strict=True)}
        return Fold(pairs, self.norms), {**self.network.variables, **rest}

    def model(self, values: Sequence[tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function images → logits for these values of `arguments`."""
        products, variables = self.fold(values)
        trace_type = partial(Folded, fold=products, precision=self.network.precision)
        return lambda images: self.network.trace(variables, images, trace_type=trace_type).logits


def inference(name: str, precision: str, **settings: Any) -> Workload:
    """Return inference with folded batch norms: images → logits."""
    network = rawcnn.create(name, precision=precision, **settings)
    products = _FoldedWeights(network)

    def function(*arguments):
        *values, images = arguments
        return [products.model(values)(images)]

    return Workload(
        f"{name} inference {precision}", "inference", precision, function,
        lambda batch: [*products.arguments, _images(network, batch)], ("logits",), (),
        _flops(network.operations), partial(_moved, network, network.operations, 1), model_of(network), _paths(network),
    )  # fmt: skip


def training(name: str, precision: str, **settings: Any) -> Workload:
    """Return one step of SGD with momentum → the loss, new variables, new velocities."""
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
    """Return PGD of 40 steps in L∞ without early exit → the changes of the images, and the loss per attacked image."""
    network = rawcnn.create(name, precision=precision, **settings)
    products = _FoldedWeights(network)

    def function(*arguments):
        *values, images, labels = arguments
        model = products.model(values)
        step = partial(_pgd_step, model, images, labels)
        attacked = tf.while_loop(lambda k, x: k < STEPS, step, (0, images))[1]
        return [attacked - images, kernels.cross_entropy(model(attacked), labels)]

    return Workload(
        f"{name} pgd{STEPS} {precision}", "pgd", precision, function,
        lambda batch: [*products.arguments, _images(network, batch), _labels(batch)],
        ("moved", "loss"), (), 2 * STEPS * _flops(network.operations),
        partial(_moved, network, network.operations, 2 * STEPS), model_of(network), _paths(network), ("moved",),
    )  # fmt: skip


def _pgd_step(model, images: tf.Tensor, labels: tf.Tensor, k: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of PGD (Madry et al. 2018), with the number of the step."""
    ball = Ball("linf")
    gradient, _ = loss_gradient(model, x, labels, False)
    x = ball.project(x + STEP * ball.steepest(gradient), images, EPSILON)
    return k + 1, tf.clip_by_value(x, 0.0, 1.0)


def visualize(name: str, layer: str, precision: str, **settings: Any) -> Workload:
    """Return one step of `rawcnn.visualize.optimize` on a channel of `layer` → the values and the new state of Adam."""
    network = rawcnn.create(name, precision=precision, **settings)
    products = _FoldedWeights(network, [layer])
    size, objective = network.input_size, objectives.channel(network, layer, 0)
    ascent, score = AscentSettings(size=size), FoldedScore(network, objective)

    def function(*arguments):
        *values, z, mean, square, number, moves = arguments
        score.fold, score.variables = products.fold(values)
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
    """Return a kernel's output and gradients for an upstream gradient; as in training, without an image's gradient."""
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
            Argument(f"input{k}", shape, value.dtype.name, how, axes=CUDNN if how == "filters" else ())
            for k, (shape, value, how) in enumerate(zip(shapes, inputs, draws, strict=True))
        ]
        return [*named, Argument("upstream", (batch, *case.output_shape[1:]), precision, "normal")]

    names = ("y", *(f"gradient{k}" for k in range(image, len(inputs))))
    flops = (cost.flops + (cost.macs * 2 if image else cost.backward_flops)) / case.batch

    def moved(batch: int) -> int:
        """The inputs and the upstream gradient are read; the output and a gradient per input are written."""
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
    """Return the FLOPs per image."""
    costs = [operation.cost for operation in operations]
    return float(np.sum([c.flops + (c.backward_flops if train else 0) for c in costs]))


def _moved(network: Network, operations: Sequence[Operation], passes: int, batch: int) -> int:
    """Return a lower bound of the bytes that `operations` (of one image) read and write in `passes` over a batch."""
    element = PRECISIONS[network.precision].size
    maps = sum(prod(shape) for o in operations for shape in (*o.input_shapes, o.output_shape))
    weights = sum(p.count * p.dtype.size for o in operations for p in o.parameters)
    return passes * (element * maps * batch + weights)
