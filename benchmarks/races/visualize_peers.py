"""The opponents in feature visualization: a tape around a Keras model, tf-keras-vis and xplique.

    keras loop           the eager loop with tf.GradientTape and keras.optimizers.Adam that one writes first
    keras function       its step as a tf.function
    keras function xla   the same by XLA, which has no ImageProjectiveTransformV3: it moves images by our kernel
    tf-keras-vis         ActivationMaximization: optimises pixels; jitter, scale and rotation by SciPy, to stay
    xplique              Fourier coefficients and colours too; its own transformations: pad, jitter, scale, blur, flip

Keras's ways take rawcnn's step, written a second time: lucid's Fourier image, the same moves, each image's gradient
made one, Adam. Two things differ. TensorFlow's gradient of ImageProjectiveTransformV3 resamples by the inverse
transform, which is exact for whole-pixel shifts and near it otherwise. And an eager tape also makes the gradients to
the filters of the convolutions, which a graph prunes. The two libraries have no such settings; they get Adam with the
same rate, no penalty, and the options that are nearest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from math import sqrt
from time import perf_counter

import keras
import numpy as np
import tensorflow as tf

import kernels
from benchmarks.harness.agreement import Disagreement
from benchmarks.twins.keras import keras_name, keras_twin
from rawcnn.nn.network import Network
from rawcnn.visualize.regularization import COLORS, GREY, ROBUST
from rawcnn.weights.keras_names import sources

RATE, EPSILON = 0.05, 1e-8  # Adam's
KERAS = ("keras loop", "keras function", "keras function xla")
PEERS = ("tf-keras-vis", "xplique")


@dataclass(frozen=True)
class Task:
    """What the contestants share: the unit, the numbers that all begin with, and the moves of the steps of one run."""

    network: Network
    layer: str
    channel: int
    features: keras.Model  # images [B,size,size,3] in [0,1] → the layer's activations
    start: np.ndarray  # Fourier coefficients [B,2,size,size//2+1,3]
    moves: tf.Tensor  # [steps,B,2,3]

    @property
    def batch(self) -> int:
        return len(self.start)

    @property
    def size(self) -> int:
        return self.network.input_size

    @property
    def steps(self) -> int:
        return len(self.moves)


@dataclass(frozen=True)
class Contestant:
    """One way to climb. `run` takes a step and then the task's, and tells the seconds of one of these.

    `step`, by moves [B,2,3], gives the values [B] that it climbed from; `slope`, after the first step, the gradient to
    the coefficients [B,2,h,w//2+1,3] that it took. Libraries that do something else have neither.
    """

    name: str
    run: Callable[[], float]
    step: Callable[[tf.Tensor], np.ndarray] | None = None
    slope: Callable[[], np.ndarray] | None = None


def paced(name: str, task: Task, step: Callable[[tf.Tensor], np.ndarray], slope) -> Contestant:
    """The contestant that takes this step, a run being one after the other; the first is to find its memory again."""

    def run() -> float:
        step(task.moves[0])
        begin = perf_counter()
        for moves in task.moves:
            step(moves)
        return (perf_counter() - begin) / task.steps

    return Contestant(name, run, step, slope)


# The model ----------------------------------------------------------------------------------------------------------


def keras_features(network: Network, layer: str) -> tuple[keras.Model, str]:
    """(Keras's model from images in [0,1] to the activations of `layer`, with the network's weights; what it is).

    keras.applications' own for Inception V3 with its own preprocessing, else the twin made from the operations.
    """
    modules = [op.name for op in network.operations if op.kind == "concatenate"]
    if network.name == "inception_v3" and network.preprocessing == "centered" and layer in modules:
        model, what = _applications(network), "keras.applications.InceptionV3"
        output = model.get_layer(f"mixed{modules.index(layer)}").output
    else:
        model, what = keras_twin(network), "the same layers in Keras"
        output = model.get_layer(keras_name(layer)).output
    return keras.Model(model.inputs[0], output), what


def _applications(network: Network) -> keras.Model:
    """keras.applications.InceptionV3 without its classifier, with the network's weights."""
    images = keras.Input((network.input_size, network.input_size, 3))
    model = keras.applications.InceptionV3(
        weights=None, include_top=False, input_tensor=keras.layers.Rescaling(2.0, -1.0)(images)
    )
    there = {variable.path: variable for variable in model.variables}
    for path, source in (sources(network, "inception_v3", there) or {}).items():
        for name in source.names:  # none for the scales of batch norms, which are ones there
            if name in there:
                there[name].assign(network.variables[path])
    return model


# Keras's ways --------------------------------------------------------------------------------------------------------


def keras_way(task: Task, name: str) -> Contestant:
    """A tape around the Keras model: eager, as a tf.function, or under XLA."""
    resample = partial(kernels.affine_resample, fill=GREY) if name.endswith("xla") else projected
    z = tf.Variable(task.start.transpose(1, 0, 4, 2, 3))  # [2,B,3,h,w//2+1]
    optimizer = keras.optimizers.Adam(RATE, epsilon=EPSILON)
    optimizer.build([z])

    def climb(moves: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            images = lucid_image(z, task.size)
            seen = resample(images, moves)
            values = tf.reduce_mean(task.features(seen, training=False)[..., task.channel], axis=(1, 2))
        slope = tape.gradient(values, images)
        slope /= tf.sqrt(tf.reduce_sum(tf.square(slope), axis=(1, 2, 3), keepdims=True))
        ascent = tape.gradient(images, z, slope)
        optimizer.apply_gradients([(-ascent, z)])
        return values, ascent

    if name != "keras loop":
        climb = tf.function(climb, jit_compile=name.endswith("xla"), autograph=False)
    last: list[tf.Tensor] = []

    def step(moves: tf.Tensor) -> np.ndarray:
        values, ascent = climb(moves)
        last[:] = [ascent]
        return values.numpy()

    return paced(name, task, step, lambda: last[0].numpy().transpose(1, 0, 3, 4, 2))


def lucid_image(z: tf.Tensor, size: int) -> tf.Tensor:
    """[2,B,3,h,w//2+1] → images [B,h,w,3]: lucid's param/spatial.py and color.py in a few lines of TensorFlow."""
    frequencies = np.sqrt(np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size)[None] ** 2)
    scale = sqrt(size * size) / np.maximum(frequencies, 1 / size) ** ROBUST.decay
    spectrum = tf.complex(z[0], z[1]) * scale.astype(np.complex64)
    planes = tf.signal.irfft2d(spectrum, (size, size)) / 4  # [B,3,h,w]
    return tf.sigmoid(tf.matmul(tf.transpose(planes, (0, 2, 3, 1)), COLORS.T))


def projected(images: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    """The images moved by TensorFlow's own operation."""
    eight = tf.pad(tf.reshape(moves, (-1, 6)), ((0, 0), (0, 2)))  # no perspective
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=eight,
        output_shape=images.shape[1:3],
        fill_value=GREY,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


# Libraries -----------------------------------------------------------------------------------------------------------


class Clock(keras.optimizers.Adam):
    """Adam that notes when each step ended: so one call of a library tells the time of its steps alone."""

    def __init__(self) -> None:
        super().__init__(RATE, epsilon=EPSILON)
        self.ends: list[float] = []

    def apply_gradients(self, grads_and_vars, **options):
        pairs = list(grads_and_vars)
        result = super().apply_gradients(pairs, **options)
        tf.reshape(pairs[0][1], (-1,))[0].numpy()  # waits for the device
        self.ends.append(perf_counter())
        return result

    @property
    def pace(self) -> float:
        """Seconds a step, from the end of the first, in which libraries trace, to the end of the last."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def installed(name: str) -> str | None:
    """The version of a library; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def library(task: Task, name: str) -> Contestant:
    """tf-keras-vis or xplique, as installed."""
    visualize = {"tf-keras-vis": _tf_keras_vis, "xplique": _xplique}[name]

    def run() -> float:
        clock = Clock()
        images = np.asarray(visualize(task, clock, task.steps + 1))
        if images.shape != (task.batch, task.size, task.size, 3) or not np.isfinite(images).all():
            raise Disagreement(f"{name} made no images: {images.shape}, or numbers that are not finite")
        return clock.pace

    return Contestant(name, run)


def _tf_keras_vis(task: Task, optimizer: Clock, steps: int):
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.input_modifiers import Jitter, Rotate2D, Scale

    first, last = (Jitter(max(1, round(share * task.size))) for share in (ROBUST.jitter, ROBUST.last_jitter))
    climb = ActivationMaximization(keras.Model([task.features.input], task.features.output))
    noise = np.random.default_rng(0).normal(GREY, 0.01, (task.batch, task.size, task.size, 3))
    return climb(
        lambda activations: tf.reduce_mean(activations[..., task.channel], axis=(1, 2)),
        seed_input=tf.constant(noise, tf.float32),
        input_range=(0.0, 1.0),
        input_modifiers=[first, Scale(1 - ROBUST.scale, 1 + ROBUST.scale), Rotate2D(ROBUST.rotation), last],
        regularizers=[],
        optimizer=optimizer,
        steps=steps,
    )


def _xplique(task: Task, optimizer: Clock, steps: int):
    from xplique.features_visualizations import Objective, optimize

    layer = task.features.layers[-1].name
    objective = Objective.channel(task.features, layer, [task.channel] * task.batch)  # an image for each
    images, _ = optimize(
        objective, optimizer, steps, fft_decay=ROBUST.decay, custom_shape=(task.size, task.size), values_range=(0, 1)
    )
    return images[-1]
