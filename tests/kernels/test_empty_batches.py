"""Batches without an image: every kernel gives a batch of none, finite sums and finite gradients, in each mode."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

import kernels

W = tf.ones((3, 3, 4, 6))
HALVES = tf.ones((3, 3, 2, 6))
C = tf.ones(4)
LABELS = tf.zeros((0,), tf.int32)
CONVOLUTIONS = ("auto", "nn", "im2col", "shifted", "winograd", "winograd4", "space_to_depth")
# functions of maps [B,6,8,4] and filters; all but the last are pure in x
KERNELS: dict[str, Callable] = {
    **{f"conv2d {form}": lambda x, form=form: kernels.conv2d(x, W, algorithm=form) for form in CONVOLUTIONS},
    "conv2d in strides": lambda x: kernels.conv2d(x, W, 2),
    "conv2d dilated": lambda x: kernels.conv2d(x, W, dilation=2),
    "conv2d padded": lambda x: kernels.conv2d(x, W, 2, ((1, 1), (1, 1))),
    **{
        f"conv2d in groups {form}": lambda x, form=form: kernels.conv2d(x, HALVES, groups=2, algorithm=form)
        for form in ("auto", "split", "dense", "shifted")
    },
    "conv2d in depth": lambda x: kernels.conv2d(x, tf.ones((3, 3, 1, 8)), groups=4),
    "conv2d_transpose": lambda x: kernels.conv2d_transpose(x, tf.ones((3, 3, 5, 4)), 2),
    **{f"max_pool {form}": lambda x, form=form: kernels.max_pool(x, 3, 2, "SAME", form) for form in ("nn", "lines")},
    **{
        f"average_pool {form}": lambda x, form=form: kernels.average_pool(x, 3, 2, "SAME", algorithm=form)
        for form in ("nn", "lines")
    },
    "average_pool of a large window": lambda x: kernels.average_pool(x, 7, 1, "SAME"),
    "max_unpool": lambda x: kernels.max_unpool(x, tf.zeros_like(x, tf.int32), 2, 2, input_size=(12, 16)),
    "global_average_pool": kernels.global_average_pool,
    **{
        f"batch_normalization_training {form}": lambda x, form=form: kernels.batch_normalization_training(
            x, C, C, 1e-3, form
        )[0]
        for form in ("fused", "explicit")
    },
    "batch_normalization": lambda x: kernels.batch_normalization(x, C, C, C, C, 1e-3),
    **{
        f"local_response_normalization {form}": lambda x, form=form: kernels.local_response_normalization(
            x, algorithm=form
        )
        for form in ("auto", "nn", "explicit", "compiled")
    },
    "relu": kernels.relu,
    "guided_relu": kernels.guided_relu,
    "sigmoid": kernels.sigmoid,
    "scale_channels": lambda x: kernels.scale_channels(x, x[:, 0, 0]),
    "concatenate": lambda x: kernels.concatenate([x, x]),
    "residual_sum": lambda x: kernels.residual_sum(x, x),
    "zero_padded_shortcut": lambda x: kernels.zero_padded_shortcut(x, 8, 2),
    "dropout": lambda x: kernels.dropout(x, 0.5, (0, 1)),
    "drop_path": lambda x: kernels.drop_path(x, 0.5, (0, 1)),
    "dense": lambda x: kernels.dense(x[:, 0, 0], W[0, 0], tf.ones(6)),
    "softmax": kernels.softmax,
    "log_softmax": kernels.log_softmax,
    **{
        f"cross_entropy {form}": lambda x, form=form: kernels.cross_entropy(x[:, 0, 0], LABELS, algorithm=form)
        for form in ("nn", "explicit")
    },
    "encode_levels": lambda x: kernels.encode_levels(x, 4, "thermometer"),
    "gaussian_blur": lambda x: kernels.gaussian_blur(x, 1.0),
    "total_variation": kernels.total_variation,
    "high_frequency_energy": kernels.high_frequency_energy,
    "affine_resample": lambda x: kernels.affine_resample(x, tf.zeros((tf.shape(x)[0], 2, 3))),
    "fourier_image": lambda x: kernels.fourier_image(tf.zeros((2, 0, 6, 5, 3)), (6, 8)),
}


OF_THEIR_OWN = ("fourier_image", "cross_entropy nn", "cross_entropy explicit")  # the batch is not x's


def value_and_gradient(kernel):
    def both(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = kernel(x)
        return y, tape.gradient(y, x)

    return both


@pytest.mark.sample(3)
@pytest.mark.parametrize("mode", ["eager", "graph", "unknown", "xla"])
@pytest.mark.parametrize("name", KERNELS)
def test_an_empty_batch(name, mode):
    function = value_and_gradient(KERNELS[name])
    x = tf.zeros((0, 6, 8, 4))
    if mode != "eager":
        known = tf.TensorSpec([None if mode == "unknown" else 0, 6, 8, 4])
        function = tf.function(function, autograph=False, jit_compile=mode == "xla", input_signature=[known])
    y, dx = function(x)
    assert y.shape == (0, *KERNELS[name](tf.zeros((1, 6, 8, 4)) if name not in OF_THEIR_OWN else x).shape[1:])
    assert dx is None or dx.shape == x.shape


@pytest.mark.parametrize("mode", ["eager", "graph", "unknown", "xla"])
@pytest.mark.parametrize("form", ["auto", "fused", "explicit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_of_an_empty_batch(dtype, form, mode):
    def moments(x):
        with tf.GradientTape() as tape:
            tape.watch(C)
            y, mean, variance = kernels.batch_normalization_training(x, C, C, 1e-3, form)
        return mean, variance, tape.gradient(y, C)

    x = tf.zeros((0, 6, 8, 4), dtype)
    if mode != "eager":
        known = tf.TensorSpec([None if mode == "unknown" else 0, 6, 8, 4], dtype)
        moments = tf.function(moments, autograph=False, jit_compile=mode == "xla", input_signature=[known])
    for values in moments(x):
        np.testing.assert_array_equal(values, np.zeros(4))


def test_gradients_of_filters_and_weights_are_zero():
    for form in ("shifted", "nn", "winograd", "winograd4", "space_to_depth", "split", "dense"):
        dw = kernels.conv2d_filter_gradient(tf.zeros((0, 6, 8, 4)), tf.zeros((0, 6, 8, 6)), 3, algorithm=form)
        np.testing.assert_array_equal(dw, np.zeros((3, 3, 4, 6)))
    dx, dw, db = kernels.dense_gradient(tf.zeros((0, 3)), tf.ones((3, 2)), tf.zeros((0, 2)))
    assert dx.shape == (0, 3) and not dw.numpy().any() and not db.numpy().any()
