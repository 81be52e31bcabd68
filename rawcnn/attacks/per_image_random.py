"""Random numbers that belong to an image: the same in every batch, for TensorFlow's kernels and for XLA."""

from __future__ import annotations

from math import pi

import tensorflow as tf


def uniform(count: int, images: tf.Tensor, seed: tf.Tensor, stream: tf.Tensor | int) -> tf.Tensor:
    """[B,count] in [0, 1 − 2⁻²⁴], one row for each image number in `images` [B].

    A row depends only on (seed, stream, image number); streams are restarts, trials or steps. The numbers are made from
    32-bit words, because XLA turns the first 23 bits of a word into a float and TensorFlow's kernels the last 23.
    """

    def draw(shape, seed, dtype):
        return tf.random.stateless_uniform(shape, seed, minval=None, maxval=None, dtype=dtype, alg="philox")

    key = draw((), tf.stack([seed, stream]), tf.int32)
    words = tf.map_fn(
        lambda number: draw((count,), tf.stack([key, number]), tf.uint32),
        images,
        fn_output_signature=tf.TensorSpec((count,), tf.uint32),
    )
    return tf.cast(tf.bitwise.right_shift(words, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def normal(count: int, images: tf.Tensor, seed: tf.Tensor, stream: tf.Tensor | int) -> tf.Tensor:
    """[B,count], standard normal, from `uniform` (Box & Muller 1958)."""
    u, v = tf.split(uniform(2 * count, images, seed, stream), 2, axis=1)
    return tf.sqrt(-2 * tf.math.log(1 - u)) * tf.cos(2 * pi * v)


def image_numbers(images: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """[B]: the numbers of a batch's images, if `first` images came before it."""
    return first + tf.range(tf.shape(images)[0])
