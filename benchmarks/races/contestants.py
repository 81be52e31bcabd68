"""The contestants of a network's race: rawcnn, Keras and PyTorch, each in the ways that its users run it.

    rawcnn graph, mixed, xla       `rawcnn.program` and the step of `rawcnn train`, in a mode of `rawcnn.nn.execution`
    keras default, jit, no jit     predict_on_batch or train_on_batch with jit_compile "auto", True, False
    keras function, function xla   a hand-written tf.function around the Keras model; in training with a tape and
                                   momentum instead of Keras's trainer
    torch eager, compile           PyTorch's modules in channels_last, under autocast; only if requested

All contestants share the weights, and the images and labels, which are on the device. Training contestants of one
library train the same variables, each with separate velocities. A call waits for its result: the logits or the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.races.setup import Contestant, Setup
from benchmarks.twins.keras import twin_variables
from rawcnn.nn.execution import choose
from rawcnn.nn.folding import program
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import State, make_step

NAMES = (
    "rawcnn graph",
    "rawcnn mixed",
    "rawcnn xla",
    "keras default",
    "keras jit",
    "keras no jit",
    "keras function",
    "keras function xla",
)
MIXED = "rawcnn mixed"  # equals "rawcnn graph" in float32, where XLA compiles no part of the graph
TORCH = ("torch eager", "torch compile")
JIT: dict[str, Any] = {"default": "auto", "jit": True, "no jit": False, "function": False, "function xla": True}
RATE, MOMENTUM = 1e-4, 0.9


def inference(setup: Setup, name: str) -> Contestant:
    """Return the contestant `name` for inference: images [B,H,W,3] → logits [B,classes]."""
    library, mode = name.split(" ", 1)
    images = setup.images
    if library == "torch":
        from benchmarks.races import torch_contestants

        return Contestant(name, torch_contestants.inference(setup, mode))
    if library == "rawcnn":
        function = program(setup.network, mode)
        return Contestant(name, lambda: function(images).numpy())
    if mode.startswith("function"):
        function = tf.function(lambda x: setup.twin(x, training=False), jit_compile=JIT[mode], autograph=False)
        return Contestant(name, lambda: function(images).numpy())
    model = keras.Model(setup.twin.inputs, setup.twin.outputs)  # shares the layers; compiled separately
    model.compile(jit_compile=JIT[mode])
    return Contestant(name, lambda: model.predict_on_batch(images))


def training(setup: Setup, name: str) -> Contestant:
    """Return the contestant `name` for training: one step of SGD with momentum on the mean cross-entropy → the loss."""
    library, mode = name.split(" ", 1)
    if library == "torch":
        from benchmarks.races import torch_contestants

        return Contestant(name, *torch_contestants.training(setup, mode, RATE, MOMENTUM))
    if library == "rawcnn":
        return _raw_step(setup, name, mode)
    return _function_step(setup, name, mode) if mode.startswith("function") else _train_on_batch(setup, name, mode)


def _raw_step(setup: Setup, name: str, mode: str) -> Contestant:
    """The step of `rawcnn train`, without augmentation and weight decay."""
    network, images, labels = setup.network, setup.images, setup.labels
    recipe = Recipe("race", "ours", batch=len(images), epochs=1, rate=RATE, momentum=MOMENTUM)
    state = State.begin(network, recipe)
    function = make_step(network, recipe, state, choose(mode))
    seed, rate = tf.constant([0, 0]), tf.constant(RATE)
    return Contestant(
        name,
        lambda: function(images, labels, seed, rate)["loss"].numpy(),
        lambda: {path: -state.slots[f"{path}/velocity"].numpy() / RATE for path in network.trained_variables},
    )


def _train_on_batch(setup: Setup, name: str, mode: str) -> Contestant:
    """Keras's trainer."""
    model = keras.Model(setup.twin.inputs, setup.twin.outputs)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=JIT[mode])
    paths = {id(v): path for path, v in twin_variables(setup.network, setup.twin).items()}

    def gradients():
        pairs = zip(model.trainable_variables, optimizer.momentums, strict=True)
        return {paths[id(v.value)]: -momentum.numpy() / RATE for v, momentum in pairs}

    return Contestant(name, lambda: np.asarray(model.train_on_batch(setup.images, setup.labels)), gradients)


def _function_step(setup: Setup, name: str, mode: str) -> Contestant:
    """A gradient tape around the Keras model, and hand-written momentum."""
    variables = twin_variables(setup.network, setup.twin)
    trained = {path: variables[path] for path in setup.network.trained_variables}
    velocities = {path: tf.Variable(tf.zeros(v.shape), trainable=False) for path, v in trained.items()}

    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = setup.twin(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        for path, gradient in tape.gradient(loss, trained).items():
            velocity = velocities[path].assign(MOMENTUM * velocities[path] + RATE * gradient)
            trained[path].assign_sub(velocity)
        return loss

    function = tf.function(step, jit_compile=JIT[mode], autograph=False)
    return Contestant(
        name,
        lambda: function(setup.images, setup.labels).numpy(),
        lambda: {path: v.numpy() / RATE for path, v in velocities.items()},
    )


JOBS: dict[str, Callable[[Setup, str], Contestant]] = {"inference": inference, "training": training}
