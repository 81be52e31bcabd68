"""The Keras twin of a network: its operations as Keras layers, with its weights copied.

The twin is what a Keras user writes: Conv2D, BatchNormalization, MaxPooling2D … in a functional model, with
`mixed_bfloat16` for a bfloat16 network. Keras has no layers for local response normalization and for the zero-padded
shortcut. They are Lambda layers around the same TensorFlow operation. Drop path, which is used only in training, is
left out. The first layer preprocesses images [B,H,W,3] in [0,1], in float32 as in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import keras
import numpy as np

from benchmarks.twins.specification import CAFFE_MEAN, DEVIATION, MEAN, Layer, ModelSpecification, Pads, model_of

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float64": "float64"}
LOWEST = float(np.finfo(np.float32).min) / 2  # replaces −∞; stays finite when it is rounded to bfloat16
LEAVES = {  # rawcnn's last path element → the attribute of the Keras layer
    "filters": "kernel",
    "weights": "kernel",
    "bias": "bias",
    "scale": "gamma",
    "offset": "beta",
    "mean": "moving_mean",
    "variance": "moving_variance",
}

# One function per kind of operation ----------------------------------------------------------------------------------


def _pad(x, pads: Pads, value: float, name: str):
    """Pad explicitly: ZeroPadding2D, or a Lambda layer for another value than zero."""
    if pads == ((0, 0), (0, 0)):
        return x
    if value == 0:
        return keras.layers.ZeroPadding2D(pads, name=f"{name}.pad")(x)
    widths = ((0, 0), *pads, (0, 0))
    return keras.layers.Lambda(lambda x: keras.ops.pad(x, widths, constant_values=value), name=f"{name}.pad")(x)


def _conv(op: Layer, name: str, x, after_relu):
    s: dict[str, Any] = op.settings
    kh, kw, _, out = op.parameters["filters"]
    padding, stride = s["padding"], s["stride"]
    if not isinstance(padding, str):
        x, padding = _pad(x, padding, 0.0, name), "VALID"
    same = {"padding": padding.lower(), "dilation_rate": s["dilation"], "use_bias": s["bias"], "name": name}
    channels = op.channels
    if s["groups"] == channels > 1:
        layer = keras.layers.DepthwiseConv2D(
            (kh, kw), stride, depth_multiplier=out // channels, depthwise_initializer="zeros", **same
        )
    else:
        layer = keras.layers.Conv2D(out, (kh, kw), stride, groups=s["groups"], kernel_initializer="zeros", **same)
    return layer(x)


def _dense(op: Layer, name: str, x, after_relu):
    if len(x.shape) > 2:
        x = keras.layers.Flatten(name=f"{name}.flatten")(x)
    units, bias = op.output_shape[-1], op.settings["bias"]
    return keras.layers.Dense(units, use_bias=bias, kernel_initializer="zeros", name=name)(x)


def _batch_norm(op: Layer, name: str, x, after_relu):
    s = op.settings
    return keras.layers.BatchNormalization(
        momentum=s["momentum"], epsilon=s["epsilon"], center=s["offset"], scale=s["scale"], name=name
    )(x)


def _lrn(op: Layer, name: str, x, after_relu):
    s = op.settings

    def by_tensorflow(x):  # tf.nn's operation does not accept bfloat16
        import tensorflow as tf

        y = tf.nn.local_response_normalization(
            tf.cast(x, tf.float32), s["radius"], bias=s["bias"], alpha=s["alpha"], beta=s["beta"]
        )
        return tf.cast(y, x.dtype)

    def by_shifts(x):
        wide = keras.ops.cast(x, "float32")
        squares = keras.ops.pad(keras.ops.square(wide), ((0, 0), (0, 0), (0, 0), (s["radius"], s["radius"])))
        total = sum(squares[..., shift : shift + op.channels] for shift in range(2 * s["radius"] + 1))
        return keras.ops.cast(wide * (s["bias"] + s["alpha"] * total) ** -s["beta"], x.dtype)

    normalize = by_tensorflow if keras.backend.backend() == "tensorflow" else by_shifts

    return keras.layers.Lambda(normalize, output_shape=x.shape[1:], name=name)(x)


def _relu(op: Layer, name: str, x, after_relu):
    return keras.layers.ReLU(name=name)(x)


def _max_pool(op: Layer, name: str, x, after_relu):
    s: dict[str, Any] = op.settings
    padding = s["padding"]
    if not isinstance(padding, str):  # zeros never exceed a maximum after a ReLU; otherwise the lowest number is needed
        x, padding = _pad(x, padding, 0.0 if after_relu else LOWEST, name), "VALID"
    return keras.layers.MaxPooling2D(s["size"], s["stride"], padding.lower(), name=name)(x)


def _average_pool(op: Layer, name: str, x, after_relu):
    s: dict[str, Any] = op.settings
    padding, size, stride, pads = s["padding"], s["size"], s["stride"], op.pads
    if pads == ((0, 0), (0, 0)) or (padding == "SAME" and not s["count_padding"]):
        word = padding.lower() if isinstance(padding, str) else "valid"
        return keras.layers.AveragePooling2D(size, stride, word, name=name)(x)
    x = keras.layers.AveragePooling2D(size, stride, "valid", name=f"{name}.sum")(_pad(x, pads, 0.0, name))
    share = _share_inside(op) if not s["count_padding"] else np.ones((1, 1, 1, 1))
    return keras.layers.Lambda(lambda x: x / keras.ops.cast(share, x.dtype), name=name)(x)


def _share_inside(op: Layer) -> np.ndarray:
    """Return the share of each window's pixels that lies inside the image: [1,H',W',1]."""
    inside = np.pad(np.ones(op.input_shapes[0][:2]), op.pads)
    (kh, kw), (sh, sw) = (np.broadcast_to(op.settings[key], 2) for key in ("size", "stride"))
    height, width = op.output_shape[:2]
    share = [[inside[i * sh :, j * sw :][:kh, :kw].mean() for j in range(width)] for i in range(height)]
    return np.array(share)[None, :, :, None]


def _global_average_pool(op: Layer, name: str, x, after_relu):
    return keras.layers.GlobalAveragePooling2D(name=name)(x)


def _dropout(op: Layer, name: str, x, after_relu):
    return keras.layers.Dropout(op.settings["rate"], name=name)(x)


def _concatenate(op: Layer, name: str, *branches, after_relu):
    return keras.layers.Concatenate(name=name)(list(branches))


def _residual_sum(op: Layer, name: str, x, y, after_relu):
    """Add a map and a shortcut; with a scale, add a map and a scaled residual."""
    if scale := op.settings.get("scale"):
        y = keras.layers.Rescaling(scale, name=f"{name}.scaled")(y)
    return keras.layers.Add(name=name)([x, y])


def _pad_layer(op: Layer, name: str, x, after_relu):
    """Add zeros around a map; a negative margin removes pixels."""
    margins: Any = op.settings["margins"]
    added, taken = ([tuple(max(sign * side, 0) for side in axis) for axis in margins] for sign in (1, -1))
    x = keras.layers.ZeroPadding2D(added, name=f"{name}.added")(x)
    return keras.layers.Cropping2D(taken, name=name)(x)


def _sigmoid(op: Layer, name: str, x, after_relu):
    return keras.layers.Activation("sigmoid", name=name)(x)


def _scale_channels(op: Layer, name: str, x, scales, after_relu):
    scales = keras.layers.Reshape((1, 1, x.shape[-1]), name=f"{name}.scales")(scales)
    return keras.layers.Multiply(name=name)([x, scales])


def _zero_padded_shortcut(op: Layer, name: str, x, after_relu):
    s: dict[str, Any] = op.settings
    (sh, sw), extra = np.broadcast_to(s["stride"], 2), s["channels"] - x.shape[-1]
    front = extra // 2 if s["zeros"] == "both" else 0
    widths = ((0, 0), (0, 0), (0, 0), (front, extra - front))
    return keras.layers.Lambda(lambda x: keras.ops.pad(x[:, ::sh, ::sw], widths), name=name)(x)


LAYERS: dict[str, Callable] = {
    "conv": _conv,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "relu": _relu,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "global_average_pool": _global_average_pool,
    "dropout": _dropout,
    "concatenate": _concatenate,
    "residual_sum": _residual_sum,
    "pad": _pad_layer,
    "sigmoid": _sigmoid,
    "scale_channels": _scale_channels,
    "zero_padded_shortcut": _zero_padded_shortcut,
}


def _preprocess(kind: str, images):
    """Preprocess in float32, with the network's order of operations, so that both round equally."""
    mean, deviation, caffe = (np.array(v, np.float32) for v in (MEAN, DEVIATION, CAFFE_MEAN))
    step = {
        "none": lambda x: x,
        "centered": lambda x: x * 2 - 1,
        "torch": lambda x: (x - mean) / deviation,
        "caffe": lambda x: keras.ops.flip(x, axis=-1) * 255 - caffe,  # the slice x[..., ::-1] takes twice as long
    }[kind]
    return keras.layers.Lambda(step, dtype="float32", name="images.preprocessed")(images)


# The model -------------------------------------------------------------------------------------------------------


def keras_twin(network: Any, dtype: str = "float32") -> keras.Model:
    """Return a functional Keras model that computes the same as `network`, with its weights.

    Args:
        network: The network. Its operations give the layers their names, with "." for "/".
        dtype: "float32", "bfloat16" (Keras's policy mixed_bfloat16) or "float64" (for exact comparisons).

    Returns:
        A model: images [B,H,W,3] in [0,1] → logits [B,classes].

    Raises:
        ValueError: For an operation without a Keras layer here, and for variables that only training uses (GoogLeNet's
            auxiliary heads).
    """
    model = build(model_of(network), dtype)
    copy_weights(network.variables, twin_variables(network, model))
    return model


def build(model: ModelSpecification, dtype: str = "float32") -> keras.Model:
    """Return the Keras model of a specification, with initial weights."""
    if dtype not in POLICIES:
        raise ValueError(f"dtype is {dtype!r}; expected one of {', '.join(POLICIES)}")
    images = keras.Input((*model.size, 3), name="images")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(POLICIES[dtype])
    try:
        made, rectified = {"images": _preprocess(model.preprocessing, images)}, set[str]()
        for op in model.layers:
            if op.kind not in LAYERS:
                raise ValueError(f"{op.name} is a {op.kind}; the Keras twin knows {', '.join(LAYERS)}")
            inputs = [made[source] for source in op.inputs]
            made[op.name] = LAYERS[op.kind](
                op, keras_name(op.name), *inputs, after_relu=rectified.issuperset(op.inputs)
            )
            rectified |= {op.name} if op.kind == "relu" else set()
        wide = "float64" if dtype == "float64" else "float32"
        logits = keras.layers.Activation("linear", dtype=wide, name="logits")(made[model.layers[-1].name])
    finally:
        keras.config.set_dtype_policy(before)
    return keras.Model(images, logits, name=model.name)


def keras_name(name: str) -> str:
    """Return the layer's name in Keras, which does not allow "/"."""
    return name.replace("/", ".")


def variable_of(model: keras.Model, path: str) -> keras.Variable:
    """Return the twin's variable for the network's variable at `path`."""
    operation, leaf = path.rsplit("/", 1)
    return getattr(model.get_layer(keras_name(operation)), LEAVES[leaf])


def twin_variables(network: Any, model: keras.Model) -> dict[str, Any]:
    """Return the twin's variables by the network's paths, as variables of the backend."""
    return {path: variable_of(model, path).value for path in network.variables}


def copy_weights(values: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    """Assign `values` by path; a depthwise filter [kh,kw,1,C·m] is reshaped to Keras's [kh,kw,C,m]."""
    for path, variable in variables.items():
        value = np.asarray(values[path])
        if value.size != prod(variable.shape):
            raise ValueError(f"{path} is {value.shape}, the twin's is {tuple(variable.shape)}")
        variable.assign(value.reshape(variable.shape).astype(variable.dtype.as_numpy_dtype))
