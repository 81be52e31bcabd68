"""Folding: a batch norm becomes part of the convolution before it. For fixed weights only.

    γ·(conv(x, W) + b − μ)/√(σ² + ε) + β  =  conv(x, s·W) + (s·(b − μ) + β),   s = γ/√(σ² + ε)

The folded network gives the same logits, up to rounding, with fewer operations. Attacks, optimized images and
evaluations run a network hundreds of times with the same weights, so the products s·W are computed once. Saliency,
deconvolution and multi-crop evaluation trace the network itself, because they show its own layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import tensorflow as tf

import kernels
from kernels.forms.differentiable import with_gradient
from rawcnn.nn.execution import choose, choosing_for, compiled
from rawcnn.nn.network import Network
from rawcnn.nn.trace import PRECISIONS, Operation, Trace, check_precision


class Fold(NamedTuple):
    """The parameters of a folded network."""

    convolutions: dict[str, list]  # by name: filters and bias that include the batch norm, tensors or arrays
    norms: frozenset[str]  # the batch norms that become the identity


class Folded(Trace):
    """A trace whose convolutions include the batch norm that follows them. For inference only.

    The activation of such a convolution is the output of its batch norm.
    """

    def __init__(self, variables, images, *, fold: Fold, precision: str | None = None, **options):
        options["dtype"] = PRECISIONS[precision] if precision else options["dtype"]
        super().__init__(variables, images, **options)
        self.fold = fold

    def variable(self, path, shape, initial, **options):
        """Return the value of a variable, or None for a folded convolution, whose products `apply` uses."""
        if path.rsplit("/", 1)[0] in self.fold.convolutions:
            return None
        return super().variable(path, shape, initial, **options)

    def apply(self, name, kind, kernel, inputs, parameters=(), **metadata):
        """Apply the kernel; a folded convolution gets its products, a folded batch norm becomes the identity."""
        if name in self.fold.convolutions:
            parameters = [p if p.dtype == self.dtype else tf.cast(p, self.dtype) for p in self.fold.convolutions[name]]
        elif name in self.fold.norms:
            kernel, parameters = lambda x: x, ()
        if kind == "conv" and tf.executing_eagerly() and not self.devices:
            kernel = partial(_with_fixed_filters, kernel, metadata)
        return super().apply(name, kind, kernel, inputs, parameters, **metadata)


def _with_fixed_filters(kernel: Callable, settings: Mapping[str, Any], x: tf.Tensor, filters: tf.Tensor, *bias):
    """A convolution with a gradient to x alone. Eagerly, TensorFlow would compute that of the filters in any case."""
    stride, padding, dilation, groups = (settings[key] for key in ("stride", "padding", "dilation", "groups"))
    fixed, *rest = map(tf.convert_to_tensor, (filters, *bias))

    def forward(x):
        return kernel(x, fixed, *rest)

    def backward(inputs, y, dy):
        size = inputs[0].shape[1:3]
        return kernels.conv2d_input_gradient(dy, fixed, size, stride, padding, dilation, groups, "auto")

    return with_gradient(forward, backward)(x)


def fold(network: Network, spare: Sequence[str] = (), precision: str | None = None) -> Fold:
    """Fold the network's batch norms, with its variables as they are now.

    Args:
        network: The network.
        spare: Names of convolutions that are not folded, because their own activations are needed.
        precision: "float64" computes the products in float64; by default they have the type of the variables.
    """
    dtype = tf.float64 if precision == "float64" else None
    norms = {name: norm for name, norm in _foldable(network).items() if name not in spare}
    return Fold(
        {name: _parameters(network.operation(name), norm, network.variables, dtype) for name, norm in norms.items()},
        frozenset(norm.name for norm in norms.values()),
    )


def folded(network: Network, precision: str | None = None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the folded network, with its variables as they are now, as a function of images.

    Call this once, outside of loops: the returned function only uses what was computed here.

    Args:
        network: The network.
        precision: The precision of the arithmetic, by default the network's.

    Returns:
        A function images [B,H,W,3] → logits [B,classes], float32, or float64 in that precision.

    Raises:
        ValueError: The precision is unknown.
    """
    check_precision(precision or network.precision)
    trace_type = partial(Folded, fold=fold(network, precision=precision), precision=precision)
    values = {path: tf.convert_to_tensor(variable) for path, variable in network.variables.items()}
    return lambda images: network.trace(values, images, trace_type=trace_type).logits


def program(network: Network, compile: str = "auto", precision: str | None = None) -> Callable[[tf.Tensor], tf.Tensor]:
    """Compile the folded network: the fastest inference for fixed weights.

    In a TensorFlow graph the filters are constants, so that oneDNN reorders each of them once and not in each call, and
    all weights have the program's precision from the start. Fully connected weights are not constants, and for XLA
    nothing is: both would spend a minute on them.

    Args:
        network: The network, with its variables as they are now.
        compile: One of `rawcnn.nn.execution.MODES`.
        precision: The precision of the arithmetic, by default the network's.

    Returns:
        A function images [B,H,W,3], float RGB in [0,1] → logits [B,classes], float32, or float64 in that precision.

    Raises:
        ValueError: The mode or the precision is unknown, or the network has no classifier.
    """
    network.check_classifier()
    precision = check_precision(precision or network.precision)
    choice = choose(compile, network.devices, precision)
    if choice.mode not in ("graph", "mixed"):
        return compiled(folded(network, precision), choice)
    products, dtype = fold(network, precision=precision), PRECISIONS[precision]
    arrays = {name: [tf.cast(p, dtype).numpy() for p in both] for name, both in products.convolutions.items()}
    values: dict[str, Any] = {path: tf.convert_to_tensor(variable) for path, variable in network.variables.items()}
    for path, value in values.items():
        if path.endswith("/filters"):
            values[path] = tf.cast(value, dtype).numpy()
        elif path.endswith("/weights"):
            values[path] = tf.cast(value, dtype)
    trace_type = partial(Folded, fold=products._replace(convolutions=arrays), precision=precision)
    choosing = choosing_for("inference")

    def logits(images):
        with choosing():
            return network.trace(values, images, trace_type=trace_type).logits

    return compiled(logits, choice)


def _foldable(network: Network) -> dict[str, Operation]:
    """Name of each convolution whose only reader is a batch norm → that batch norm."""
    readers: dict[str, list[Operation]] = {}
    for operation in network.operations:
        for source in operation.inputs:
            readers.setdefault(source, []).append(operation)
    return {
        operation.name: readers[operation.name][0]
        for operation in network.operations
        if operation.kind == "conv" and [reader.kind for reader in readers.get(operation.name, ())] == ["batch_norm"]
    }


def _parameters(
    conv: Operation, norm: Operation, variables: Mapping[str, tf.Variable], dtype: tf.DType | None
) -> list[tf.Tensor]:
    """Filters and bias of the convolution that includes the batch norm."""
    paths = [parameter.path for parameter in (*conv.parameters, *norm.parameters)]
    values = {path.rsplit("/", 1)[1]: tf.cast(variables[path], dtype or variables[path].dtype) for path in paths}
    moments, learned = (values["mean"], values["variance"]), (values.get("scale"), values.get("offset"))
    epsilon: Any = norm.settings["epsilon"]
    return list(kernels.fold_batch_normalization(values["filters"], values.get("bias"), *moments, *learned, epsilon))
