"""The opponents in feature visualization: a gradient tape around a Keras model, tf-keras-vis and xplique.

    keras loop           an eager loop with tf.GradientTape and keras.optimizers.Adam
    keras function       its step as a tf.function
    keras function xla   its step by XLA, with rawcnn's resampling kernel (XLA has no ImageProjectiveTransformV3)
    tf-keras-vis         ActivationMaximization: optimizes pixels; jitter, scale and rotation by SciPy
    xplique              optimizes Fourier coefficients and colors; pads, jitters, scales, blurs and flips

The contestants of Keras compute rawcnn's step with independent code: lucid's Fourier image, the same transforms, a
gradient of length one per image, and Adam. Two things differ. TensorFlow's gradient of ImageProjectiveTransformV3
resamples by the inverse transform, which is exact only for shifts by whole pixels. An eager tape also computes the
gradients of the filters, which a graph prunes. The two libraries cannot be configured to compute the same step. They
use Adam with the same rate, no penalty, and the most similar options.
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
from rawcnn.visualize.regularization import COLORS, GRAY, ROBUST
from rawcnn.weights.keras_names import sources

RATE, EPSILON = 0.05, 1e-8  # of Adam
KERAS = ("keras loop", "keras function", "keras function xla")
PEERS = ("tf-keras-vis", "xplique")


@dataclass(frozen=True)
class AscentTask:
    """What all contestants share: the unit, the initial coefficients, and the transforms of the steps of one run."""

    network: Network
    layer: str
    channel: int
    features: keras.Model  # images [B,h,w,3] in [0,1] → the layer's activations
    start: np.ndarray  # Fourier coefficients [B,2,h,w//2+1,3]
    moves: tf.Tensor  # [steps,B,2,3]

    @property
    def batch(self) -> int:
        return len(self.start)

    @property
    def size(self) -> tuple[int, int]:
        """The (height, width) of the images."""
        return self.network.image_size

    @property
    def steps(self) -> int:
        return len(self.moves)


@dataclass(frozen=True)
class AscentContestant:
    """One way to maximize the unit.

    `run` takes a warm-up step and then the task's steps, and returns the mean seconds of the latter. `step` takes
    transforms [B,2,3] and returns the values [B] before the step. `gradient`, after the first step, returns its
    gradient with respect to the coefficients [B,2,h,w//2+1,3]. Libraries with other steps have neither.
    """

    name: str
    run: Callable[[], float]
    step: Callable[[tf.Tensor], np.ndarray] | None = None
    gradient: Callable[[], np.ndarray] | None = None


def stepping_contestant(
    name: str, task: AscentTask, step: Callable[[tf.Tensor], np.ndarray], gradient
) -> AscentContestant:
    """Return the contestant whose run repeats `step`; the first step is not timed, so that memory is in the caches."""

    def run() -> float:
        step(task.moves[0])
        begin = perf_counter()
        for moves in task.moves:
            step(moves)
        return (perf_counter() - begin) / task.steps

    return AscentContestant(name, run, step, gradient)


# The model ----------------------------------------------------------------------------------------------------------


def keras_features(network: Network, layer: str) -> tuple[keras.Model, str]:
    """Return (Keras's model from images in [0,1] to the activations of `layer`, its description).

    The model has the network's weights. It is that of keras.applications for Inception V3 with Keras's preprocessing,
    otherwise the Keras twin.
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
    """Return keras.applications.InceptionV3 without its classifier, with the network's weights."""
    images = keras.Input((*network.image_size, 3))
    model = keras.applications.InceptionV3(
        weights=None, include_top=False, input_tensor=keras.layers.Rescaling(2.0, -1.0)(images)
    )
    there = {variable.path: variable for variable in model.variables}
    for path, source in (sources(network, "inception_v3", there) or {}).items():
        for name in source.names:  # Keras's batch norms have no scales; they are ones here
            if name in there:
                there[name].assign(network.variables[path])
    return model


# Keras ---------------------------------------------------------------------------------------------------------------


def keras_contestant(task: AscentTask, name: str) -> AscentContestant:
    """Return a gradient tape around the Keras model: eager, as a tf.function, or compiled by XLA."""
    resample = partial(kernels.affine_resample, fill=GRAY) if name.endswith("xla") else projected
    z = tf.Variable(task.start.transpose(1, 0, 4, 2, 3))  # [2,B,3,h,w//2+1]
    optimizer = keras.optimizers.Adam(RATE, epsilon=EPSILON)
    optimizer.build([z])

    def ascend(moves: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            images = lucid_image(z, task.size)
            seen = resample(images, moves)
            values = tf.reduce_mean(task.features(seen, training=False)[..., task.channel], axis=(1, 2))
        upstream = tape.gradient(values, images)
        upstream /= tf.sqrt(tf.reduce_sum(tf.square(upstream), axis=(1, 2, 3), keepdims=True))
        gradient = tape.gradient(images, z, upstream)
        optimizer.apply_gradients([(-gradient, z)])
        return values, gradient

    if name != "keras loop":
        ascend = tf.function(ascend, jit_compile=name.endswith("xla"), autograph=False)
    last: list[tf.Tensor] = []

    def step(moves: tf.Tensor) -> np.ndarray:
        values, gradient = ascend(moves)
        last[:] = [gradient]
        return values.numpy()

    return stepping_contestant(name, task, step, lambda: last[0].numpy().transpose(1, 0, 3, 4, 2))


def lucid_image(z: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """[2,B,3,h,w//2+1] → images [B,h,w,3], after lucid's param/spatial.py and color.py."""
    height, width = size
    frequencies = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width)[None] ** 2)
    scale = sqrt(height * width) / np.maximum(frequencies, 1 / max(size)) ** ROBUST.decay
    spectrum = tf.complex(z[0], z[1]) * scale.astype(np.complex64)
    planes = tf.signal.irfft2d(spectrum, size) / 4  # [B,3,h,w]
    return tf.sigmoid(tf.matmul(tf.transpose(planes, (0, 2, 3, 1)), COLORS.T))


def projected(images: tf.Tensor, moves: tf.Tensor) -> tf.Tensor:
    """Transform the images [B,h,w,3] by TensorFlow's operation."""
    eight = tf.pad(tf.reshape(moves, (-1, 6)), ((0, 0), (0, 2)))  # no perspective
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=eight,
        output_shape=images.shape[1:3],
        fill_value=GRAY,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


# Libraries -----------------------------------------------------------------------------------------------------------


class Clock(keras.optimizers.Adam):
    """Adam that records when each step ended, to time the steps within one call of a library."""

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
    def seconds_per_step(self) -> float:
        """The mean seconds per step without the first, in which libraries trace."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


def installed(name: str) -> str | None:
    """Return the version of a distribution; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def library_contestant(task: AscentTask, name: str) -> AscentContestant:
    """Return the contestant of the installed tf-keras-vis or xplique."""
    visualize = {"tf-keras-vis": _tf_keras_vis, "xplique": _xplique}[name]

    def run() -> float:
        clock = Clock()
        images = np.asarray(visualize(task, clock, task.steps + 1))
        if images.shape != (task.batch, *task.size, 3) or not np.isfinite(images).all():
            raise Disagreement(f"{name} made no images: {images.shape}, or values that are not finite")
        return clock.seconds_per_step

    return AscentContestant(name, run)


def _tf_keras_vis(task: AscentTask, optimizer: Clock, steps: int):
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.activation_maximization.input_modifiers import Jitter, Rotate2D, Scale

    first, last = (Jitter(max(1, round(share * min(task.size)))) for share in (ROBUST.jitter, ROBUST.last_jitter))
    maximize = ActivationMaximization(keras.Model([task.features.input], task.features.output))
    noise = np.random.default_rng(0).normal(GRAY, 0.01, (task.batch, *task.size, 3))
    return maximize(
        lambda activations: tf.reduce_mean(activations[..., task.channel], axis=(1, 2)),
        seed_input=tf.constant(noise, tf.float32),
        input_range=(0.0, 1.0),
        input_modifiers=[first, Scale(1 - ROBUST.scale, 1 + ROBUST.scale), Rotate2D(ROBUST.rotation), last],
        regularizers=[],
        optimizer=optimizer,
        steps=steps,
    )


def _xplique(task: AscentTask, optimizer: Clock, steps: int):
    from xplique.features_visualizations import Objective, optimize

    layer = task.features.layers[-1].name
    objective = Objective.channel(task.features, layer, [task.channel] * task.batch)  # one entry per image
    images, _ = optimize(
        objective, optimizer, steps, fft_decay=ROBUST.decay, custom_shape=task.size, values_range=(0, 1)
    )
    return images[-1]
