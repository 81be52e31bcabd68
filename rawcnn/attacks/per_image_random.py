"""Random numbers that belong to an image: the same in every batch, for TensorFlow's kernels and for XLA."""

from __future__ import annotations

import tensorflow as tf

from kernels.random import normal_floats, random_words, uniform_floats


def uniform(count: int, images: tf.Tensor, seed: tf.Tensor, stream: tf.Tensor | int) -> tf.Tensor:
    """[B,count] in [0, 1 − 2⁻²⁴], one row for each image number in `images` [B].

    A row depends only on (seed, stream, image number); streams are restarts, trials or steps.
    """
    key = tf.random.stateless_uniform(
        (), tf.stack([seed, stream]), minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    words = tf.map_fn(
        lambda number: random_words((count,), tf.stack([key, number])),
        images,
        fn_output_signature=tf.TensorSpec((count,), tf.uint32),
    )
    return uniform_floats(words)


def normal(count: int, images: tf.Tensor, seed: tf.Tensor, stream: tf.Tensor | int) -> tf.Tensor:
    """[B,count], standard normal, from `uniform` (Box & Muller 1958)."""
    u, v = tf.split(uniform(2 * count, images, seed, stream), 2, axis=1)
    return normal_floats(u, v)


def image_numbers(images: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """[B]: the numbers of a batch's images, if `first` images came before it."""
    return first + tf.range(tf.shape(images)[0])
