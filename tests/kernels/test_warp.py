"""Affine resampling against NumPy loops, TensorFlow's own operations, the tape and central differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.cost import Cost
from tests import references

DTYPES = ["float64", "float32", "bfloat16"]
IDENTITY = tf.constant([[[1.0, 0, 0], [0, 1, 0]]])
# input height and width, output size, fill
SHAPES = [((5, 5), None, 0.0), ((4, 7), None, 0.3), ((6, 3), (5, 8), 0.0), ((1, 1), (2, 3), -1.0)]


def transforms_near_identity(batch, seed=0, spread=0.3, dtype="float32"):
    noise = spread * references.random((batch, 2, 3), seed, "float64") * [1.0, 1, 4]
    return tf.cast(tf.cast(IDENTITY, "float64") + noise, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("input_size", "size", "fill"), SHAPES)
def test_samples_are_the_references(input_size, size, fill, dtype):
    images = references.random((3, *input_size, 2), 1, dtype)
    transforms = transforms_near_identity(3, dtype="float64" if dtype == "float64" else "float32")
    out = kernels.affine_resample(images, transforms, fill, size)
    assert out.dtype == images.dtype
    images64 = tf.cast(images, "float64").numpy()
    references.close(out, kernels.affine_resample_reference(images64, transforms.numpy(), fill, size))


def test_samples_are_those_of_tensorflows_projective_transform():
    images, transforms = references.random((3, 8, 9, 2), 2), transforms_near_identity(3, 1)
    rows = tf.concat([tf.reshape(transforms, (3, 6)), tf.zeros((3, 2))], axis=1)
    theirs = tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=rows,
        output_shape=[8, 9],
        fill_value=0.25,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    references.close(kernels.affine_resample(images, transforms, 0.25), theirs)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_bit_for_bit(dtype, jit):
    images = references.random((2, 5, 7, 3), 3, dtype)
    resample = tf.function(kernels.affine_resample, jit_compile=jit)
    np.testing.assert_array_equal(resample(images, tf.tile(IDENTITY, (2, 1, 1)), 0.5), images)
    still = kernels.rotation_translation(tf.zeros(2), tf.zeros((2, 2)), (5, 7))
    np.testing.assert_array_equal(resample(images, still), images)
    whole = kernels.crop_resize_transforms(tf.constant([[0.0, 0, 5, 7]] * 2), (5, 7))
    np.testing.assert_array_equal(resample(images, whole), images)


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, 3), (-1, 2), (3, -2), (6, 1)])
def test_an_integer_shift_is_a_slice(right, down):
    images = references.random((1, 5, 6, 2), 4)
    transforms = kernels.rotation_translation(tf.zeros(1), tf.constant([[right, down]], tf.float32), (5, 6))
    padded = tf.pad(images, ((0, 0), (3, 3), (6, 6), (0, 0)), constant_values=0.5)
    expected = padded[:, 3 - down : 8 - down, 6 - right : 12 - right]
    np.testing.assert_array_equal(kernels.affine_resample(images, transforms, 0.5), expected)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("size", [4, 5])
def test_a_quarter_turn_is_rot90(turns, size):
    images = references.random((2, size, size, 3), 5)
    angles = tf.fill((2,), turns * np.float32(np.pi / 2))
    transforms = kernels.rotation_translation(angles, tf.zeros((2, 2)), size)
    references.close(kernels.affine_resample(images, transforms), tf.image.rot90(images, turns % 4))


def test_each_example_has_its_own_transform():
    images = references.random((3, 5, 5, 1), 6)
    angles, shifts = tf.constant([0.0, 0.3, -1.2]), tf.constant([[0.0, 0], [1, 0.5], [-2, 0.25]])
    together = kernels.affine_resample(images, kernels.rotation_translation(angles, shifts, 5))
    for b in range(3):
        alone = kernels.rotation_translation(angles[b : b + 1], shifts[b : b + 1], 5)
        references.close(together[b : b + 1], kernels.affine_resample(images[b : b + 1], alone))


def test_a_turn_comes_before_a_shift():
    image = np.zeros((1, 5, 5, 1), "float32")
    image[0, 2, 4] = 1  # at the right edge; a quarter turn takes it to the top edge, then it moves right
    transforms = kernels.rotation_translation(tf.constant([np.pi / 2], tf.float32), tf.constant([[1.0, 0]]), 5)
    out = kernels.affine_resample(image, transforms)[0, :, :, 0].numpy()
    assert np.unravel_index(out.argmax(), out.shape) == (0, 3)


@pytest.mark.parametrize("size", [(6, 7), (8, 9), (16, 20)])
def test_crop_and_resize_is_tf_image_resize_of_the_crop_away_from_its_edges(size):
    images = references.random((1, 12, 14, 2), 7)
    ours = kernels.affine_resample(images, kernels.crop_resize_transforms([[2.0, 3, 8, 9]], size), size=size)
    theirs = tf.image.resize(images[:, 2:10, 3:12], size)  # repeats its edge pixels, where ours reads on
    references.close(ours[:, 2:-2, 2:-2], theirs[:, 2:-2, 2:-2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("input_size", "size", "fill"), SHAPES)
def test_image_gradient_is_the_tapes(input_size, size, fill, dtype):
    images = references.random((3, *input_size, 2), 8, dtype)
    transforms = transforms_near_identity(3, 2, dtype="float64" if dtype == "float64" else "float32")
    gradient = references.random((3, *(size or input_size), 2), 9, dtype)
    by_hand = kernels.affine_resample_image_gradient(gradient, transforms, input_size)
    assert by_hand.dtype == images.dtype
    (tape,) = references.tape_gradient(lambda x: kernels.affine_resample(x, transforms, fill, size), [images], gradient)
    references.close(by_hand, tape, kind="gradient")


def test_image_gradient_is_the_difference():
    images, transforms = references.random((2, 4, 5, 2), 10, "float64"), transforms_near_identity(2, 3)
    weights = references.random((2, 4, 5, 2), 11, "float64")
    references.central_difference(
        lambda x: tf.reduce_sum(weights * kernels.affine_resample(x, transforms)),
        [kernels.affine_resample_image_gradient(weights, transforms, (4, 5))],
        images,
    )


def test_the_tape_differentiates_through_angles_and_shifts():
    images = references.random((2, 6, 6, 1), 12, "float64")
    angles, shifts = references.random((2,), 13, "float64"), references.random((2, 2), 14, "float64")

    def energy(angles, shifts):
        transforms = kernels.rotation_translation(angles, shifts, 6)
        return tf.reduce_sum(kernels.affine_resample(images, transforms) ** 2)

    gradients = references.tape_gradient(energy, [angles, shifts], None)
    references.central_difference(energy, gradients, angles, shifts)


@pytest.mark.sample("float32")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_compiled_form_is_the_gathered_one(dtype):
    """Itself and both gradients; where a graph knows its batch it is what "auto" takes."""
    images, gradient = references.random((2, 5, 6, 2), 20, dtype), references.random((2, 4, 7, 2), 21, dtype)
    transforms = transforms_near_identity(2, 6, dtype="float64" if dtype == "float64" else "float32")

    def everything(form, images, transforms):
        with tf.GradientTape() as tape:
            tape.watch((images, transforms))
            out = kernels.affine_resample(images, transforms, 0.3, (4, 7), form)
        return out, *tape.gradient(out, (images, transforms), output_gradients=gradient)

    gathered = everything("gather", images, transforms)
    for ours, theirs in zip(everything("compiled", images, transforms), gathered, strict=True):
        assert ours.dtype == theirs.dtype
        references.close(ours, theirs, kind="gradient")
    for batch, islands in ((2, 1), (None, 0)):
        spec = [tf.TensorSpec((batch, *t.shape[1:]), t.dtype) for t in (images, transforms)]
        graph = tf.function(kernels.affine_resample, input_signature=spec).get_concrete_function().graph
        calls = [op for op in graph.get_operations() if "PartitionedCall" in op.type]
        assert len(calls) == islands


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_same_everywhere(dtype):
    images, gradient = references.random((2, 5, 6, 2), 15, dtype), references.random((2, 5, 6, 2), 16, dtype)
    transforms = transforms_near_identity(2, 4)
    references.same_everywhere(kernels.affine_resample, images, transforms, kind="gradient")
    references.same_everywhere(
        lambda g, t: kernels.affine_resample_image_gradient(g, t, (5, 6)), gradient, transforms, kind="gradient"
    )
    references.same_everywhere(
        lambda a, s: kernels.rotation_translation(a, s, (5, 6)), tf.constant([0.3]), tf.constant([[1.0, -2]])
    )


def test_unknown_batch():
    images, transforms = references.random((3, 5, 6, 2), 17), transforms_near_identity(3, 5)

    def there_and_back(images, transforms):
        out = kernels.affine_resample(images, transforms, size=(4, 4))
        return out, kernels.affine_resample_image_gradient(out, transforms, (5, 6))

    spec = [tf.TensorSpec([None, 5, 6, 2]), tf.TensorSpec([None, 2, 3])]
    compiled = tf.function(there_and_back, input_signature=spec)
    assert [s.as_list() for s in compiled.get_concrete_function().output_shapes] == [
        [None, 4, 4, 2],
        [None, 5, 6, 2],
    ]
    for ours, eager in zip(compiled(images, transforms), there_and_back(images, transforms), strict=True):
        references.close(ours, eager)


def test_far_outside_everything_is_fill():
    far = tf.constant([[[1.0, 0, 1e9], [0, 1, 0]], [[1, 0, 0], [0, 1, -1e9]]])
    out = kernels.affine_resample(references.random((2, 3, 3, 1)), far, fill=0.5)
    assert (out.numpy() == 0.5).all()


@settings(max_examples=15, deadline=None)
@given(*[st.integers(1, 6)] * 4, st.integers(0, 99))
def test_resampling_and_its_gradient_are_adjoint(height, width, out_height, out_width, seed):
    images = references.random((2, height, width, 1), seed, "float64")
    transforms = transforms_near_identity(2, seed + 1, spread=1.0, dtype="float64")
    out = kernels.affine_resample(images, transforms, size=(out_height, out_width))
    expected = kernels.affine_resample_reference(images.numpy(), transforms.numpy(), 0, (out_height, out_width))
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)
    g = references.random(out.shape, seed + 2, "float64")
    back = kernels.affine_resample_image_gradient(g, transforms, (height, width))
    np.testing.assert_allclose(tf.reduce_sum(out * g), tf.reduce_sum(images * back), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("images", "transforms"), [((2, 5, 5), (2, 2, 3)), ((2, 5, 5, 1), (2, 6)), ((2, 5, 5, 1), (3, 2, 3))]
)
def test_bad_input_says_what_was_wrong(images, transforms):
    with pytest.raises(ValueError, match="cannot resample images"):
        kernels.affine_resample(tf.ones(images), tf.ones(transforms))


def test_cost():
    assert kernels.affine_resample_cost((2, 4, 5, 3)) == Cost(0, 40 * 39, 40 * 42)
