"""Backpropagation by hand: a whole network is differentiated by the gradients that its kernels write out.

By the chain rule, an operation y = f(x, w) in the middle of a network turns ∂L/∂y into

    ∂L/∂x = (∂y/∂x)ᵀ · ∂L/∂y     for the operation before it
    ∂L/∂w = (∂y/∂w)ᵀ · ∂L/∂y     for its parameters

The fourth section of each file of `kernels` writes these two products for its operation. Here the forward pass records
the operations, and one loop takes them in reverse order. An activation that several operations read, such as the input
of a residual block or of an inception module, gets the sum of their gradients.

No automatic differentiation takes part. Source: Rumelhart, Hinton, Williams 1986.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import tensorflow as tf

import kernels
from kernels.geometry import crop_or_pad_gradient, shown
from rawcnn.nn.network import Network, check_images
from rawcnn.nn.preprocessing import PREPROCESSING_GRADIENT
from rawcnn.nn.trace import Forward, Trace
from rawcnn.nn.weight_decay import WeightDecay, decayed, with_weight_decay

Tensors = dict[str, tf.Tensor]
PREPROCESSED = "preprocessed"  # the name of preprocessed images, which the first layer reads; "images" are RGB in [0,1]


class Backward(NamedTuple):
    """The result of a backward pass.

    Attributes:
        loss: What was differentiated, a scalar.
        parameters: The gradient to each trained variable, by path; zeros for those that the loss does not depend on.
        activations: The gradient to the output of each operation that the loss depends on, by its name, and to the
            images, RGB in [0,1], as "images".
    """

    loss: tf.Tensor
    parameters: Tensors
    activations: Tensors


@runtime_checkable
class LossTerms(WeightDecay, Protocol):
    """What a recipe adds to the mean cross-entropy; `rawcnn.training.recipes.Recipe` has these attributes."""

    @property
    def label_smoothing(self) -> float:
        """The share of each target that is spread over all classes."""

    @property
    def auxiliary_weight(self) -> float:
        """The factor of each auxiliary head's loss."""

    @property
    def auxiliary_smoothing(self) -> bool:
        """Whether the labels of auxiliary heads are smoothed, too."""


def backpropagate(
    network: Network,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    train: bool = False,
    seed: int | tf.Tensor | None = None,
    recipe: LossTerms | None = None,
) -> Backward:
    """Compute the loss of a batch and its gradients to all parameters and activations, by hand.

    Args:
        network: The network.
        images: [B,H,W,3], float RGB in [0,1].
        labels: The number of each image's class, int [B].
        train: Use the batch's own moments, drop units and paths, and run auxiliary heads.
        seed: In training, an int or an int tensor [2] that dropout masks are drawn from, as in `Network.forward`.
        recipe: A training recipe: its label smoothing, weight decay and weight of auxiliary heads. Without one the loss
            is the mean cross-entropy of the batch.

    Returns:
        Backward(loss, parameters, activations).

    Raises:
        ValueError: The images or labels do not fit, the network has no classifier, or an operation has no gradient by
            hand.
    """
    network.check_classifier()
    if not isinstance(recipe, LossTerms | None):
        raise ValueError(f"recipe is {shown(recipe)}; expected a training recipe, such as find_recipe('onecycle')")
    labels = _check_batch(images, labels, network.classes)
    operations, _ = applied_operations(network, network.variables, images, train=train, seed=seed)
    loss, logit_gradients = loss_and_gradient(network, operations, labels, recipe)
    parameters, activations = backward_pass(operations, logit_gradients)
    activations["images"] = image_gradient(network, images, activations)
    activations.pop(PREPROCESSED, None)  # no operation's output
    gradients = of_all_variables(network.trained_variables, parameters)
    if recipe and recipe.weight_decay:
        loss += recipe.weight_decay * kernels.weight_decay(decayed(network.trained_variables, recipe).values())
        gradients = with_weight_decay(gradients, network.trained_variables, recipe)
    return Backward(loss, gradients, activations)


# The forward pass -----------------------------------------------------------------------------------------------------


class Applied(NamedTuple):
    """An operation as it ran: all that its gradient needs."""

    name: str
    kind: str
    input_names: tuple[str, ...]  # of the operations that it read; PREPROCESSED for the network's first
    inputs: tuple[tf.Tensor, ...]
    parameters: Tensors  # by the last part of their paths: "filters", "bias", …
    output: tf.Tensor
    moments: tuple[tf.Tensor, ...]  # batch norm in training: the batch's mean and unbiased variance
    settings: Mapping[str, Any]  # stride, padding, rate, seed, …


class AppliedTrace(Trace):
    """A trace that also writes each operation into a list."""

    def __init__(self, *variables_and_images, operations: list[Applied], **options):
        super().__init__(*variables_and_images, **options)
        self._names[id(self.images)] = PREPROCESSED
        self._operations = operations
        self._parameter_names: dict[int, str] = {}  # id of a parameter's tensor → the last part of its path

    def variable(self, path, shape, initial, **options):
        """Return the value of a variable, and remember its name."""
        value = super().variable(path, shape, initial, **options)
        self._parameter_names[id(value)] = path.rsplit("/", 1)[1]
        return value

    def apply(self, name, kind, kernel, inputs, parameters=(), *, window=None, cost=None, **settings):
        """Apply the kernel and record the operation. Only a symbolic trace reads `window` and `cost`."""
        result = super().apply(name, kind, kernel, inputs, parameters)
        output, *moments = result if isinstance(result, tuple) else (result,)
        input_names = tuple(map(self.name_of, inputs))
        named = {self._parameter_names[id(value)]: value for value in parameters}
        self._operations.append(
            Applied(name, kind, input_names, tuple(inputs), named, output, tuple(moments), settings)
        )
        return result


def applied_operations(network: Network, variables, images: tf.Tensor, **options) -> tuple[list[Applied], Forward]:
    """Run a network and return its operations in order, and the result; arguments as of `Network.trace`."""
    operations: list[Applied] = []
    forward = network.trace(variables, images, trace_type=partial(AppliedTrace, operations=operations), **options)
    return operations, forward


# The loss -------------------------------------------------------------------------------------------------------------


def loss_and_gradient(
    network: Network, operations: Sequence[Applied], labels: tf.Tensor, recipe: LossTerms | None
) -> tuple[tf.Tensor, Tensors]:
    """Compute the loss without weight decay, and its gradient to the logits of each head.

    L = Σ weight · mean cross-entropy over the heads, so ∂L/∂logits = weight/B · (softmax − targets).
    """
    outputs = {op.name: op.output for op in operations}
    loss, gradients = 0.0, {}
    for name, weight, smoothing in _heads(network, outputs, recipe):
        logits = outputs[name]
        loss += weight * tf.reduce_mean(kernels.cross_entropy(logits, labels, smoothing))
        share = tf.cast(weight / tf.cast(tf.shape(logits)[0], network.wide), logits.dtype)
        gradients[name] = share * kernels.cross_entropy_gradient(logits, labels, smoothing)
    return loss, gradients


def _heads(network: Network, outputs: Tensors, recipe: LossTerms | None) -> Iterator[tuple[str, float, float]]:
    """Yield the name, weight and label smoothing of the classifier, and of the auxiliary heads that a recipe weighs."""
    yield network.head, 1.0, recipe.label_smoothing if recipe else 0.0
    if recipe and recipe.auxiliary_weight:
        for name in network.auxiliary:
            if name in outputs:  # in training
                yield name, recipe.auxiliary_weight, recipe.label_smoothing if recipe.auxiliary_smoothing else 0.0


# The backward pass ----------------------------------------------------------------------------------------------------


def backward_pass(operations: Sequence[Applied], output_gradients: Mapping[str, tf.Tensor]) -> tuple[Tensors, Tensors]:
    """Go through the operations in reverse order and apply the rule of each.

    Args:
        operations: The operations of a forward pass, in order.
        output_gradients: The gradient to the output of some operations, such as the logits, by name.

    Returns:
        The gradients to parameters by path and to activations by name. One that no given output depends on has none.

    Raises:
        ValueError: A kind of operation has no rule.
    """
    parameters: Tensors = {}
    activations = dict(output_gradients)
    for op in reversed(operations):
        if op.name not in activations:  # the loss does not depend on it
            continue
        if op.kind not in GRADIENT_RULES:
            raise ValueError(
                f"{op.name} is a {op.kind}, which has no gradient by hand; {', '.join(GRADIENT_RULES)} have one"
            )
        input_gradients, parameter_gradients = GRADIENT_RULES[op.kind](op, activations[op.name])
        for name, gradient in zip(op.input_names, input_gradients, strict=True):
            activations[name] = activations[name] + gradient if name in activations else gradient
        for parameter, gradient in parameter_gradients.items():
            if parameter in op.parameters:  # a layer may have no bias, scale or offset
                parameters[f"{op.name}/{parameter}"] = gradient
    return parameters, activations


def image_gradient(network: Network, images: tf.Tensor, activations: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """Return the gradient to images, RGB in [0,1], from the activations' gradients: preprocessing, backward."""
    none = tf.zeros(tf.shape(images), network.wide)  # a network that discretizes its pixels has no gradient to them
    preprocessed_gradient = tf.cast(activations.get(PREPROCESSED, none), network.wide)
    return PREPROCESSING_GRADIENT[network.preprocessing](preprocessed_gradient)


def of_all_variables(variables: Mapping[str, tf.Variable | tf.Tensor], gradients: Tensors) -> Tensors:
    """Return the gradient to each variable in its type; zeros for a variable without a gradient."""
    return {
        path: tf.cast(gradients[path], variable.dtype)
        if path in gradients
        else tf.zeros(variable.shape, variable.dtype)
        for path, variable in variables.items()
    }


# The rules ------------------------------------------------------------------------------------------------------------
#
# A rule takes an operation and g = ∂L/∂(its output). It returns the gradients to its inputs, and to its parameters by
# name. All of its arithmetic is in the fourth section of the kernel's file.

Gradients = tuple[Sequence[tf.Tensor], Tensors]


def _conv(op: Applied, g: tf.Tensor) -> Gradients:
    (x,), filters = op.inputs, op.parameters["filters"]
    slide = [op.settings[name] for name in ("stride", "padding", "dilation", "groups")]
    x_gradient = kernels.conv2d_input_gradient(g, filters, x.shape[1:3], *slide)
    filter_gradient = kernels.conv2d_filter_gradient(x, g, filters.shape[:2], *slide)
    return [x_gradient], {"filters": filter_gradient, "bias": kernels.conv2d_bias_gradient(g)}


def _dense(op: Applied, g: tf.Tensor) -> Gradients:
    (x,), weights = op.inputs, op.parameters["weights"]
    rows = tf.reshape(x, (-1, weights.shape[0]))  # [B,H,W,C] → [B,H·W·C]
    row_gradient, weight_gradient, bias_gradient = kernels.dense_gradient(rows, weights, g)
    return [tf.reshape(row_gradient, (-1, *x.shape[1:]))], {"weights": weight_gradient, "bias": bias_gradient}


def _batch_norm(op: Applied, g: tf.Tensor) -> Gradients:
    (x,), scale, epsilon = op.inputs, op.parameters.get("scale"), op.settings["epsilon"]
    if op.moments:  # training: the moments depend on x
        mean, variance = op.moments[0], kernels.biased_variance(x, op.moments[1])
        x_gradient, scale_gradient, offset_gradient = kernels.batch_normalization_gradient(
            x, g, scale, mean, variance, epsilon
        )
    else:
        mean, variance = op.parameters["mean"], op.parameters["variance"]
        x_gradient, _, _, scale_gradient, offset_gradient = kernels.batch_normalization_inference_gradient(
            x, g, scale, mean, variance, epsilon
        )
    return [x_gradient], {"scale": scale_gradient, "offset": offset_gradient}


def _lrn(op: Applied, g: tf.Tensor) -> Gradients:
    settings = {name: op.settings[name] for name in ("radius", "bias", "alpha", "beta")}
    return [kernels.local_response_normalization_input_gradient(op.inputs[0], g, **settings)], {}


def _relu(op: Applied, g: tf.Tensor) -> Gradients:
    return [kernels.relu_gradient(op.inputs[0], g)], {}


def _max_pool(op: Applied, g: tf.Tensor) -> Gradients:
    slide = {name: op.settings[name] for name in ("size", "stride", "padding")}
    return [kernels.max_pool_input_gradient(op.inputs[0], g, **slide)], {}


def _average_pool(op: Applied, g: tf.Tensor) -> Gradients:
    slide = {name: op.settings[name] for name in ("size", "stride", "padding", "count_padding")}
    return [kernels.average_pool_input_gradient(g, op.inputs[0].shape[1:3], **slide)], {}


def _global_average_pool(op: Applied, g: tf.Tensor) -> Gradients:
    return [kernels.global_average_pool_input_gradient(g, op.inputs[0].shape[1:3])], {}


def _dropout(op: Applied, g: tf.Tensor) -> Gradients:
    seed = op.settings.get("seed")  # in training alone
    return [g if seed is None else kernels.dropout_gradient(g, op.settings["rate"], seed)], {}


def _drop_path(op: Applied, g: tf.Tensor) -> Gradients:
    seed = op.settings.get("seed")
    return [g if seed is None else kernels.drop_path_gradient(g, op.settings["rate"], seed)], {}


def _pad(op: Applied, g: tf.Tensor) -> Gradients:
    return [crop_or_pad_gradient(g, op.settings["margins"])], {}


def _discretize(op: Applied, g: tf.Tensor) -> Gradients:
    return [tf.zeros_like(op.inputs[0])], {}  # a level changes nowhere but where a pixel crosses it


def _concatenate(op: Applied, g: tf.Tensor) -> Gradients:
    return kernels.concatenate_gradient(g, [x.shape[-1] for x in op.inputs]), {}


def _residual_sum(op: Applied, g: tf.Tensor) -> Gradients:
    if "scale" in op.settings:
        return kernels.scaled_residual_sum_gradient(g, op.settings["scale"]), {}
    return kernels.residual_sum_gradient(g), {}


def _sigmoid(op: Applied, g: tf.Tensor) -> Gradients:
    return [kernels.sigmoid_gradient(op.output, g)], {}


def _scale_channels(op: Applied, g: tf.Tensor) -> Gradients:
    x, scales = op.inputs
    return kernels.scale_channels_gradient(x, scales, g), {}


def _zero_padded_shortcut(op: Applied, g: tf.Tensor) -> Gradients:
    return [
        kernels.zero_padded_shortcut_gradient(g, op.inputs[0].shape, op.settings["stride"], op.settings["zeros"])
    ], {}


GRADIENT_RULES: dict[str, Callable[[Applied, tf.Tensor], Gradients]] = {
    "conv": _conv,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "relu": _relu,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": _global_average_pool,
    "dropout": _dropout,
    "drop_path": _drop_path,
    "pad": _pad,
    "discretize": _discretize,
    "concatenate": _concatenate,
    "residual_sum": _residual_sum,
    "sigmoid": _sigmoid,
    "scale_channels": _scale_channels,
    "zero_padded_shortcut": _zero_padded_shortcut,
}


def _check_batch(images: tf.Tensor, labels: tf.Tensor, classes: int) -> tf.Tensor:
    """Return labels as int [B]. Raises ValueError unless each image has one, and there is an image."""
    count = check_images(images).shape[0]
    expected = f"expected a class number for each image, [{count}]"
    if labels is None:
        raise ValueError(f"labels are None; {expected}")
    try:
        labels = tf.convert_to_tensor(labels)
    except (TypeError, ValueError) as error:  # such as rows of different lengths
        raise ValueError(f"labels are no array of numbers ({type(labels).__name__}); {expected}") from error
    if labels.shape.rank != 1 or not labels.dtype.is_integer or not labels.shape.is_compatible_with((count,)):
        one_hot = "; for one-hot labels pass tf.argmax(labels, 1)" if labels.shape.rank == 2 else ""
        raise ValueError(f"labels are {labels.dtype.name} {labels.shape}; {expected}{one_hot}")
    if count == 0:
        raise ValueError("there are no images, so the loss has no mean; give one or more")
    wrong = [int(n) for n in labels.numpy() if not 0 <= n < classes] if tf.executing_eagerly() else []
    if wrong:
        raise ValueError(f"labels are {', '.join(map(str, wrong))}; expected class numbers from 0 to {classes - 1}")
    return labels
