"""Batch norms folded into the convolutions before them: the same network with fewer operations, for fixed weights.

    γ·(conv(x, W) + b − μ)/√(σ² + ε) + β  =  conv(x, s·W) + (s·(b − μ) + β),   s = γ/√(σ² + ε)

Attacks and optimized images take the network hundreds of times with the same weights, evaluations once an image: the
products are made once. Saliency, deconvolution and the protocols that look at one image many times walk the network
itself: they show its own layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

import kernels
from rawcnn.nn.execution import choose, choosing_for, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.trace import PRECISIONS, Operation, Trace, check_precision


class Fold(NamedTuple):
    """What a folded walk computes with."""

    convolutions: dict[str, list]  # by name: filters and bias that do the batch norm's work too, tensors or arrays
    norms: frozenset[str]  # the batch norms that are left with nothing to do


class Folded(Trace):
    """A walk whose convolutions have the parameters of the batch norm after them. Inference only.

    An activation of such a convolution is what the batch norm would have given.
    """

    def __init__(self, variables, images, *, fold: Fold, precision: str | None = None, **options):
        options["dtype"] = PRECISIONS[precision] if precision else options["dtype"]
        super().__init__(variables, images, **options)
        self.fold = fold

    def variable(self, path, shape, initial, **options):
        """As ever, but nothing where `apply` has the products."""
        if path.rsplit("/", 1)[0] in self.fold.convolutions:
            return None
        return super().variable(path, shape, initial, **options)

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        if name in self.fold.convolutions:
            parameters = [p if p.dtype == self.dtype else tf.cast(p, self.dtype) for p in self.fold.convolutions[name]]
        elif name in self.fold.norms:
            kernel, parameters = lambda x: x, ()
        if kind == "conv" and tf.executing_eagerly() and not self.devices:
            kernel = partial(_of_fixed_filters, kernel, metadata)
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


def _of_fixed_filters(kernel: Callable, settings: Mapping[str, Any], x: tf.Tensor, filters: tf.Tensor, *bias):
    """A convolution with a gradient to x alone: eagerly, TensorFlow computes that of the filters too, asked or not."""
    stride, padding, dilation, groups = (settings[key] for key in ("stride", "padding", "dilation", "groups"))
    fixed, *rest = map(tf.convert_to_tensor, (filters, *bias))

    @tf.custom_gradient
    def convolution(x):
        def gradient(dy):
            size = x.shape[1:3]
            return kernels.conv2d_input_gradient(dy, fixed, size, stride, padding, dilation, groups, "auto")

        return kernel(x, fixed, *rest), gradient

    return convolution(x)


def fold(network: Network, spare: Sequence[str] = ()) -> Fold:
    """The products, of the variables as they are now; `spare` names convolutions whose own activations are wanted."""
    norms = {name: norm for name, norm in _foldable(network).items() if name not in spare}
    return Fold(
        {name: _parameters(network.operation(name), norm, network.variables) for name, norm in norms.items()},
        frozenset(norm.name for norm in norms.values()),
    )


def folded(network: Network, precision: str | None = None) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function images [B,H,W,3] → logits [B,classes], float32, of the network as its variables are now.

    `precision` is that of the arithmetic, by default the network's; ValueError for an unknown one. Call `folded` itself
    outside of loops: the function only uses what it has computed.
    """
    check_precision(precision or network.precision)
    kind = partial(Folded, fold=fold(network), precision=precision)
    values = {path: tf.convert_to_tensor(variable) for path, variable in network.variables.items()}
    return lambda images: network.trace(values, images, trace_type=kind).logits


def program(network: Network, compile: str = "auto", precision: str | None = None) -> Callable[[tf.Tensor], tf.Tensor]:
    """`folded`, compiled: images [B,H,W,3] → logits [B,classes], the fastest inference for weights that stay.

    Where TensorFlow's graph runs it, the filters are constants in the program, so that oneDNN brings each into its own
    order once, and not at every call; all weights are in the program's precision from the start. Fully connected
    weights are no constants, nor is anything for XLA: both would spend a minute on them. ValueError for an unknown mode
    or precision.
    """
    precision = check_precision(precision or network.precision)
    choice = choose(compile, network.devices, precision)
    if choice.mode not in ("graph", "mixed"):
        return compiled(folded(network, precision), choice)
    products, dtype = fold(network), PRECISIONS[precision]
    arrays = {name: [tf.cast(p, dtype).numpy() for p in both] for name, both in products.convolutions.items()}
    values: dict[str, Any] = {path: tf.convert_to_tensor(variable) for path, variable in network.variables.items()}
    for path, value in values.items():
        if path.endswith("/filters"):
            values[path] = tf.cast(value, dtype).numpy()
        elif path.endswith("/weights"):
            values[path] = tf.cast(value, dtype)
    kind = partial(Folded, fold=products._replace(convolutions=arrays), precision=precision)
    choosing = choosing_for("inference")

    def logits(images):
        with choosing():
            return network.trace(values, images, trace_type=kind).logits

    return compiled(logits, choice)


def _foldable(network: Network) -> dict[str, Operation]:
    """By the name of each convolution that nothing but a batch norm reads: that batch norm."""
    readers: dict[str, list[Operation]] = {}
    for operation in network.operations:
        for source in operation.inputs:
            readers.setdefault(source, []).append(operation)
    return {
        operation.name: readers[operation.name][0]
        for operation in network.operations
        if operation.kind == "conv" and [reader.kind for reader in readers.get(operation.name, ())] == ["batch_norm"]
    }


def _parameters(conv: Operation, norm: Operation, variables: Mapping[str, tf.Variable]) -> list[tf.Tensor]:
    """Filters and bias of the convolution that does both."""
    paths = [parameter.path for parameter in (*conv.parameters, *norm.parameters)]
    of = {path.rsplit("/", 1)[1]: tf.convert_to_tensor(variables[path]) for path in paths}
    moments, learned = (of["mean"], of["variance"]), (of.get("scale"), of.get("offset"))
    epsilon: Any = norm.settings["epsilon"]
    return list(kernels.fold_batch_normalization(of["filters"], of.get("bias"), *moments, *learned, epsilon))
