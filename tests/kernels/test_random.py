"""Random words and the numbers that are made of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import kernels
from kernels.random import normal_floats, random_words, uniform_floats
from tests import references

SEED = tf.constant([3, 4])


def test_words_are_philox():
    words = random_words((5, 3), SEED)
    assert words.dtype == tf.uint32
    np.testing.assert_array_equal(np.ravel(words), kernels.random_words_reference(15, (3, 4)))


@pytest.mark.parametrize("shape", [(2, 3), tf.constant([2, 3])])
def test_parts_of_a_batch_are_parts_of_its_words(shape):
    parts = [random_words(shape, SEED, (index, 3)) for index in range(3)]
    np.testing.assert_array_equal(tf.concat(parts, 0), random_words((6, 3), SEED))


def test_uniform_floats_are_the_upper_bits():
    words = tf.constant([0, 255, 256, 2**32 - 1], tf.uint32)
    np.testing.assert_array_equal(uniform_floats(words), [0, 0, 2.0**-24, 1 - 2.0**-24])


def test_normal_floats():
    u, v = tf.unstack(uniform_floats(random_words((2, 20_000), SEED)))
    numbers = normal_floats(u, v).numpy()
    assert np.isfinite(numbers).all() and abs(numbers.mean()) < 0.03 and abs(numbers.std() - 1) < 0.03
    a, b = u.numpy().astype(np.float64), v.numpy().astype(np.float64)
    references.close(numbers, np.sqrt(-2 * np.log(1 - a)) * np.cos(2 * np.pi * b))


def test_they_are_the_same_everywhere():
    references.same_everywhere(lambda seed: uniform_floats(random_words((4, 5), seed)), SEED)
