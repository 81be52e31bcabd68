"""Cross-entropy and weight decay against NumPy loops, Keras, GradientTape and central differences."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from tests import references

FORMS = ["nn", "explicit"]
DTYPES = ["float64", "float32", "bfloat16"]
SMOOTHINGS = [0.0, 0.1, 1.0]


def case(dtype="float32", examples=6, classes=5):
    labels = np.random.default_rng(0).integers(0, classes, examples).astype("int32")
    return references.random((examples, classes), 1, dtype) * 3, tf.constant(labels)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_cross_entropy(smoothing, dtype, form):
    z, labels = case(dtype)
    losses = kernels.cross_entropy(z, labels, smoothing, algorithm=form)
    assert losses.dtype == ("float64" if dtype == "float64" else "float32")
    z64 = tf.cast(z, "float64").numpy()
    references.close(losses, kernels.cross_entropy_reference(z64, labels.numpy(), smoothing))
    onehot = keras.ops.one_hot(labels, 5)
    theirs = keras.losses.CategoricalCrossentropy(True, label_smoothing=smoothing, reduction="none")
    references.close(losses, theirs(onehot, tf.cast(z, "float32")), dtype="float32")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_cross_entropy_gradient(smoothing, dtype, form):
    z, labels = case(dtype)
    by_hand = kernels.cross_entropy_gradient(z, labels, smoothing)
    assert by_hand.dtype == z.dtype
    upstream = tf.ones((6,), "float64" if dtype == "float64" else "float32")
    (tape,) = references.tape_gradient(
        lambda z: kernels.cross_entropy(z, labels, smoothing, algorithm=form), [z], upstream
    )
    assert tape.dtype == z.dtype
    references.close(by_hand, tape, kind="gradient")


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_cross_entropy_gradient_is_the_difference(smoothing):
    z, labels = case("float64")
    gradient = kernels.cross_entropy_gradient(z, labels, smoothing)
    references.central_difference(lambda z: tf.reduce_sum(kernels.cross_entropy(z, labels, smoothing)), [gradient], z)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cross_entropy_is_the_same_everywhere(dtype, form):
    z, labels = case(dtype)
    references.same_everywhere(lambda z, y: kernels.cross_entropy(z, y, 0.1, algorithm=form), z, labels)
    references.same_everywhere(lambda z, y: kernels.cross_entropy_gradient(z, y, 0.1), z, labels)


def test_a_bfloat16_loss_is_computed_in_float32():
    z, labels = case("bfloat16")
    np.testing.assert_array_equal(
        kernels.cross_entropy(z, labels, 0.1), kernels.cross_entropy(tf.cast(z, "float32"), labels, 0.1)
    )


@pytest.mark.parametrize("form", FORMS)
def test_confident_logits_do_not_overflow(form):
    z, labels = tf.constant([[1000.0, 0.0], [1000.0, 0.0]]), tf.constant([0, 1])
    assert kernels.cross_entropy(z, labels, algorithm=form).numpy().tolist() == [0.0, 1000.0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("jit", [False, True])
def test_a_label_out_of_range_makes_only_its_own_loss_nan(form, jit):
    z, labels = references.random((4, 3)), tf.constant([0, 3, -1, 2])
    compiled = tf.function(lambda z, y: kernels.cross_entropy(z, y, 0.1, algorithm=form), jit_compile=jit)
    assert np.isnan(compiled(z, labels)).tolist() == [False, True, True, False]


def test_unknown_batch():
    compiled = tf.function(
        kernels.cross_entropy, input_signature=[tf.TensorSpec([None, 5]), tf.TensorSpec([None], tf.int64)]
    )
    z, labels = case()
    references.close(compiled(z, tf.cast(labels, tf.int64)), kernels.cross_entropy(z, labels))


def test_bad_input_says_what_was_wrong():
    z, labels = case()
    with pytest.raises(ValueError, match=r"float32 \(6, 5\); expected class numbers"):
        kernels.cross_entropy(z, tf.one_hot(labels, 5))
    with pytest.raises(ValueError, match=r"label_smoothing is 1\.5"):
        kernels.cross_entropy(z, labels, 1.5)
    with pytest.raises(ValueError, match="algorithm is 'fast'"):
        kernels.cross_entropy(z, labels, algorithm="fast")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(2, 9), st.floats(0, 1), st.integers(0, 99))
def test_the_gradient_of_each_example_sums_to_zero(examples, classes, smoothing, seed):
    z = references.random((examples, classes), seed, "float64")
    labels = np.random.default_rng(seed).integers(0, classes, examples)
    gradient = kernels.cross_entropy_gradient(z, labels, smoothing).numpy()
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-14)
    losses = kernels.cross_entropy(z, labels, smoothing, algorithm="explicit")
    references.close(losses, kernels.cross_entropy_reference(z.numpy(), labels, smoothing))


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_decay(dtype):
    weights = [references.random((3, 3, 2, 4), 2, dtype), references.random((4,), 3, dtype)]
    expected = kernels.weight_decay_reference([tf.cast(w, "float64").numpy() for w in weights])
    references.close(kernels.weight_decay(weights), np.float64(expected))
    for by_hand, tape in zip(
        kernels.weight_decay_gradient(weights),
        references.tape_gradient(lambda *w: kernels.weight_decay(w), weights, None),
        strict=True,
    ):
        references.close(by_hand, tape, kind="gradient")


def test_weight_decay_takes_variables_and_none_at_all():
    assert kernels.weight_decay([]).numpy() == 0
    assert kernels.weight_decay({"w": tf.Variable([3.0, 4.0])}.values()).numpy() == 12.5
    references.same_everywhere(lambda w: kernels.weight_decay([w, w]), references.random((5, 5)))


def test_weight_decay_gradient_is_the_difference():
    w = references.random((3, 4), 4, "float64")
    references.central_difference(lambda w: kernels.weight_decay([w]), kernels.weight_decay_gradient([w]), w)


def test_cost():
    assert kernels.cross_entropy_cost((2, 10)) == Cost(0, 140, 60)
    assert kernels.weight_decay_cost((3, 3, 2, 4)) == Cost(0, 144, 72)
