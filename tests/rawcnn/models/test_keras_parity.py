"""Keras as an independent reference: with the same values its networks give the same logits and gradients.

Weights and batch-norm statistics are random, so that ones and zeros do not hide a wrong layer. They are copied by name.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.nn.preprocessing import PREPROCESSING
from rawcnn.nn.trace import symbolic_trace
from tests import references

CLASSES, SIZE = 7, 64
IMAGES = references.random((3, SIZE, SIZE, 3), 0, low=0.0)


def randomize(model: keras.Model) -> None:
    """Set all variables of the model to random values, on a scale that keeps activations near 1."""
    generator = np.random.default_rng(1)
    for layer in model.layers:
        values = []
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if variable.name == "kernel":
                values.append(generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
            elif variable.name in ("gamma", "moving_variance"):
                small = variable.name == "gamma" and layer.name.endswith("_3_bn")  # sixteen branches add up
                values.append(generator.uniform(0.5, 1.5, shape) * (0.2 if small else 1))
            else:  # of few digits, so that the difference of a mean and a bias is exact
                values.append(np.round(4096 * generator.normal(0, 0.1, shape)) / 4096)
        layer.set_weights(values)


def vgg16():
    model = keras.applications.VGG16(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=CLASSES, classifier_activation=None
    )
    randomize(model)
    net = rawcnn.create("vgg16", classes=CLASSES, size=SIZE, preprocessing="none")
    names = {f"block{b}_conv{c}": f"conv{b}_{c}" for b in range(1, 6) for c in range(1, 4)}
    names |= {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
    values: dict[str, np.ndarray] = {}
    for layer in model.layers:
        if layer.weights:
            ours = names[layer.name]
            weights, bias = layer.get_weights()
            values |= {f"{ours}/{'filters' if 'conv' in ours else 'weights'}": weights, f"{ours}/bias": bias}
    return model, net, values


def resnet50():
    """Keras's convolutions have biases, which the batch norm after them absorbs: mean' = mean − bias."""
    model = keras.applications.ResNet50(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=CLASSES, classifier_activation=None
    )
    randomize(model)
    net = rawcnn.create("resnet50", classes=CLASSES, size=SIZE, preprocessing="none")
    names = {"conv1": ("conv1", "conv1/bn")}  # Keras's prefix → our convolution and its batch norm
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for block in range(1, blocks + 1):
            theirs, ours = f"conv{stage}_block{block}", f"conv{stage}_{block}"
            names |= {f"{theirs}_{i}": (f"{ours}/conv{i}", f"{ours}/bn{i}") for i in (1, 2, 3)}
            names[f"{theirs}_0"] = (f"{ours}/shortcut", f"{ours}/shortcut/bn")
    values: dict[str, np.ndarray] = {}
    for theirs, (conv, norm) in names.items():
        if theirs.endswith("_0") and not theirs.endswith("block1_0"):
            continue
        filters, bias = model.get_layer(f"{theirs}_conv").get_weights()
        layer = model.get_layer(f"{theirs}_bn")
        scale, offset, mean, variance = layer.get_weights()
        values |= {
            f"{conv}/filters": filters,
            f"{norm}/scale": scale,
            f"{norm}/offset": offset,
            f"{norm}/mean": mean - bias,
            f"{norm}/variance": variance + np.float32(layer.epsilon - 1e-5),  # theirs is 1.001e-5
        }
    values["classifier/weights"], values["classifier/bias"] = model.get_layer("predictions").get_weights()
    return model, net, values


@pytest.mark.sample("resnet50")
@pytest.mark.parametrize("build", [vgg16, resnet50])
def test_logits_and_gradients_are_those_of_keras(build, monkeypatch):
    model, net, values = build()
    assert set(values) == set(net.variables)
    for path, variable in net.variables.items():
        variable.assign(values[path])

    def look(network, images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = network(images)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([2, 5, 0], logits))
        return logits, tape.gradient(loss, images).numpy()

    logits, gradient = look(net, IMAGES)
    expected_logits, expected_gradient = look(keras_in_float64(model), tf.cast(IMAGES, tf.float64))
    assert np.ptp(expected_logits) > 0.1
    references.close(logits, expected_logits, "network")
    # In float32, of a million ReLUs some whose input is within rounding of 0 may switch. That changes a few pixels.
    scale = np.abs(expected_gradient).max(axis=(1, 2, 3), keepdims=True)
    differences = np.abs(gradient - expected_gradient) / scale
    assert np.median(differences) < 1e-3 and differences.max() < 5e-2

    monkeypatch.setattr(net, "precision", "float64")
    logits, gradient = look(net, tf.cast(IMAGES, tf.float64))
    references.close_each(logits, expected_logits, 1e-6)
    assert (np.abs(gradient - expected_gradient) / scale).max() < 1e-6


def keras_in_float64(model: keras.Model):
    """Return the model with float64 arithmetic, as a function of images.

    Its variables have their float32 values, but for the variances, which get those that rawcnn's float32 variables
    hold: `resnet50` adds the difference of the ε to them, and so rounds them.
    """
    keras.config.set_dtype_policy("float64")
    try:
        wide = keras.models.clone_model(model, clone_function=lambda layer: type(layer).from_config(_plain(layer)))
    finally:
        keras.config.set_dtype_policy("float32")
    wide.set_weights(model.get_weights())
    for layer in wide.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            more = layer.epsilon - 1e-5
            ours = layer.moving_variance.numpy().astype(np.float32) + np.float32(more)
            layer.moving_variance.assign(ours.astype(np.float64) - more)
    return lambda images: wide(images, training=False)


def _plain(layer) -> dict:
    """A layer's configuration without its dtype, so that the policy decides."""
    return {key: value for key, value in layer.get_config().items() if key != "dtype"}


@pytest.mark.parametrize(
    "ours, theirs",
    [("caffe", "vgg16"), ("caffe", "resnet50"), ("centered", "inception_v3")],
)
def test_preprocessing_is_that_of_keras(ours, theirs):
    bytes_ = np.random.default_rng(3).integers(0, 256, (2, 9, 8, 3)).astype(np.float32)
    expected = getattr(keras.applications, theirs).preprocess_input(bytes_.copy())
    references.close(PREPROCESSING[ours](tf.constant(bytes_ / 255)), expected)


def test_counts_are_those_of_keras():
    """Keras's totals hold the batch-norm averages and the biases before batch norm."""
    model = keras.applications.ResNet50(weights=None)
    net = rawcnn.MODELS["resnet50"]
    parameters = symbolic_trace(net.configured(net.classes), (1, 224, 224, 3)).parameters.values()
    biases = sum(p.count for p in parameters if p.path.endswith("/mean"))  # one a channel that is normalized
    assert sum(p.count for p in parameters) + biases == model.count_params() == 25_636_712
    assert sum(p.count for p in parameters if not p.trained) == 53_120
