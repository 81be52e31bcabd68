"""Dropout against a Philox generator written out in Python, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import (
    drop_path,
    drop_path_cost,
    drop_path_gradient,
    drop_path_reference,
    dropout,
    dropout_cost,
    dropout_gradient,
    dropout_mask,
    dropout_reference,
    philox_reference,
)
from kernels.cost import Cost
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
SEED = (3, -5)


def test_philox_gives_the_published_words():
    # Known answers of the authors' Random123 library, kat_vectors, philox4x32 with ten rounds.
    zeros = philox_reference((0, 0, 0, 0), (0, 0))
    assert zeros == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    ones = philox_reference((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2)
    assert ones == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.9])
def test_dropout_drops_what_its_reference_drops(rate, dtype):
    x = references.random((2, 5, 3, 3), 1, dtype)
    y = dropout(x, rate, SEED)
    assert y.dtype == x.dtype
    expected = dropout_reference(tf.cast(x, "float64").numpy(), rate, SEED)
    references.close(y, expected)
    np.testing.assert_array_equal(tf.cast(y, "float64").numpy() == 0, expected == 0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_mask_is_the_same_everywhere_bit_for_bit(dtype):
    def mask(seed):
        return dropout_mask((7, 11), 0.3, seed, dtype)

    seed = tf.constant(SEED)
    for jit in (False, True):
        np.testing.assert_array_equal(tf.function(mask, jit_compile=jit)(seed), mask(seed))


def test_one_seed_one_mask_whatever_the_dtype_and_other_seeds_other_masks():
    kept = {seed: dropout_mask((99,), 0.5, seed).numpy() > 0 for seed in [(0, 0), (0, 1), (1, 0)]}
    wide = dropout_mask((99,), 0.5, tf.constant((0, 1), tf.int64), tf.bfloat16)
    np.testing.assert_array_equal(wide.numpy() > 0, kept[0, 1])
    assert len({mask.tobytes() for mask in kept.values()}) == 3


def test_the_share_dropped_is_the_rate_and_the_mean_is_kept():
    mask = dropout_mask((100_000,), 0.3, SEED).numpy()
    assert abs((mask == 0).mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / mask.size)  # five standard deviations
    assert abs(mask.mean() - 1) < 0.01
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.7)}


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_passes_through_the_same_mask(dtype):
    x, g = references.random((4, 6), 2, dtype), references.random((4, 6), 3, dtype)
    (tape,) = references.tape_gradient(lambda x: dropout(x, 0.4, SEED), [x], g)
    np.testing.assert_array_equal(dropout_gradient(g, 0.4, SEED), tape)


def test_gradient_is_the_difference():
    x = references.random((4, 6), 4, "float64")
    gradient = dropout_gradient(tf.ones_like(x), 0.4, SEED)
    references.central_difference(lambda x: tf.reduce_sum(dropout(x, 0.4, SEED)), [gradient], x)


def test_unknown_batch():
    spec = [tf.TensorSpec([None, 6]), tf.TensorSpec([2], tf.int32)]
    compiled = tf.function(lambda x, seed: dropout(x, 0.5, seed), input_signature=spec)
    assert compiled.get_concrete_function().output_shapes.as_list() == [None, 6]
    x = references.random((4, 6))
    np.testing.assert_array_equal(compiled(x, tf.constant(SEED)), dropout(x, 0.5, SEED))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.floats(0, 0.99),
    st.tuples(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1)),
)
def test_every_shape_rate_and_seed(shape, rate, seed):
    x = references.random(shape, 5, "float64")
    references.close(dropout(x, rate, seed), dropout_reference(x.numpy(), rate, seed))


def test_bad_input_says_what_was_wrong():
    x = tf.ones((2, 3))
    for rate in (1.0, -0.1, 50):
        with pytest.raises(ValueError, match=f"dropout rate is {rate}"):
            dropout(x, rate, SEED)
    for seed in (7, (1, 2, 3), (0.5, 1.0)):
        with pytest.raises(ValueError, match="expected two ints"):
            dropout(x, 0.5, seed)


def test_cost():
    assert dropout_cost((2, 10)) == Cost(0, 40, 20)


# Drop-path ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(9,), (9, 4), (9, 2, 3, 2)])
def test_drop_path_drops_whole_images(shape, dtype):
    x = references.random(shape, 1, dtype)
    y = drop_path(x, 0.4, SEED)
    assert y.dtype == x.dtype
    expected = drop_path_reference(tf.cast(x, "float64").numpy(), 0.4, SEED)
    references.close(y, expected)
    dropped = (expected.reshape(9, -1) == 0).all(axis=1)
    assert 0 < dropped.sum() < 9 and (expected.reshape(9, -1)[~dropped] != 0).all()


def test_drop_path_gradient():
    x, g = references.random((6, 2, 2, 3), 2, "float64"), references.random((6, 2, 2, 3), 3, "float64")
    (tape,) = references.tape_gradient(lambda x: drop_path(x, 0.4, SEED), [x], g)
    by_hand = drop_path_gradient(g, 0.4, SEED)
    np.testing.assert_array_equal(by_hand, tape)
    references.central_difference(lambda x: tf.reduce_sum(g * drop_path(x, 0.4, SEED)), [by_hand], x)


def test_drop_path_is_the_same_everywhere():
    references.same_everywhere(lambda x: drop_path(x, 0.5, SEED), references.random((5, 2, 2, 3), 1))


def test_drop_path_of_an_unknown_batch():
    compiled = tf.function(lambda x: drop_path(x, 0.5, SEED), input_signature=[tf.TensorSpec([None, 6])])
    x = references.random((4, 6))
    np.testing.assert_array_equal(compiled(x), drop_path(x, 0.5, SEED))


def test_drop_path_cost():
    assert drop_path_cost((2, 3)) == Cost(flops=6, backward_flops=6)
