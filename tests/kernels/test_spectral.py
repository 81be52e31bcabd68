"""Fourier images and high frequencies against NumPy loops and FFT, the tape and central differences."""

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
SIZES = [(1, 1), (1, 2), (2, 1), (4, 4), (5, 5), (4, 7), (7, 4), (6, 3)]  # odd, even, with no column but the mean's
SIGMAS = [0.0, 0.3, 1.0, 2.5]  # the last reaches ten pixels out: over the whole image and back
RADIUS = 0.23  # between the frequencies of all these sizes, as 0.25 is not


def float64(tensor):
    return tf.cast(tensor, "float64").numpy()


def spectrum_of(images, decay):
    """The spectrum [2,B,h,w//2+1,C] that an image came from, by NumPy's FFT and lucid's formula."""
    _, height, width, _ = images.shape
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[: width // 2 + 1]
    scale = np.sqrt(width * height) / np.maximum(np.sqrt(fx**2 + fy**2), 1 / max(width, height)) ** decay
    z = 4 * np.fft.rfft2(images, axes=(1, 2)) / scale[..., None]
    return np.stack([z.real, z.imag])


# The Fourier image ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decay", [1.0, 0.0, 1.5])
@pytest.mark.parametrize("size", SIZES)
def test_fourier_image_is_the_references(size, decay, dtype):
    z = references.random(kernels.spectrum_shape(2, size, 2), 1, dtype)
    image = kernels.fourier_image(z, size, decay)
    assert image.dtype == z.dtype
    references.close(image, kernels.fourier_image_reference(float64(z), size, decay))


@pytest.mark.parametrize("size", SIZES)
def test_reference_is_numpys_inverse_transform(size):
    height, width = size
    z = references.random((2, 2, height, width // 2 + 1, 3), 2, "float64").numpy()
    frequency = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2)
    scale = np.sqrt(width * height) / np.maximum(frequency, 1 / max(size))
    expected = np.fft.irfft2(scale[..., None] * (z[0] + 1j * z[1]), size, axes=(1, 2)) / 4
    references.close(kernels.fourier_image_reference(z, size), expected)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (5, 9), (12, 7)])
def test_round_trip(size, decay, dtype, jit):
    images = references.random((2, *size, 3), 3, "float64").numpy()
    draw = tf.function(lambda z: kernels.fourier_image(z, size, decay), jit_compile=jit)
    references.close(draw(tf.cast(spectrum_of(images, decay), dtype)), images)


@pytest.mark.parametrize(("u", "v"), [(0, 0), (1, 0), (0, 1), (2, 3), (5, 2), (3, 4)])
def test_one_coefficient_is_a_wave(u, v):
    z = np.zeros((2, 1, 6, 5, 1))
    z[:, 0, u, v, 0] = 0.6, 0.8
    y, x = np.indices((6, 8))
    frequency = max(np.hypot(min(u, 6 - u) / 6, v / 8), 1 / 8)
    angle = 2 * np.pi * (u * y / 6 + v * x / 8)
    times = 2 if 0 < v < 4 else 1
    wave = times * (0.6 * np.cos(angle) - 0.8 * np.sin(angle)) / (4 * np.sqrt(48) * frequency)
    references.close(kernels.fourier_image(tf.constant(z), (6, 8))[0, :, :, 0], wave)


@pytest.mark.parametrize("jit", [False, True])
def test_only_the_hermitian_half_of_columns_that_mirror_into_themselves_is_seen(jit):
    """Adding a_u with a_{−u} = −ā_u to column 0 or w/2 changes nothing."""
    draw = tf.function(lambda z: kernels.fourier_image(z, (5, 6)), jit_compile=jit)
    z = references.random((2, 1, 5, 4, 1), 4, "float64").numpy()
    noise = references.random((2, 5), 5, "float64").numpy()
    mirrored = noise[:, -np.arange(5) % 5]
    for column in (0, 3):
        other = z.copy()
        other[0, 0, :, column, 0] += noise[0] - mirrored[0]
        other[1, 0, :, column, 0] += noise[1] + mirrored[1]
        references.close(draw(tf.constant(other)), draw(tf.constant(z)))
    other[1, 0, :, 1, 0] += noise[1] + mirrored[1]  # column 1 is not its own mirror image
    assert references.error(draw(tf.constant(other)), draw(tf.constant(z))) > 0.01


def test_an_int_is_a_square():
    z = references.random(kernels.spectrum_shape(1, 5), 6)
    assert z.shape == (2, 1, 5, 3, 3)
    np.testing.assert_array_equal(kernels.fourier_image(z, 5), kernels.fourier_image(z, (5, 5)))
    np.testing.assert_array_equal(kernels.fourier_frequencies(5), kernels.fourier_frequencies((5, 5)))


@pytest.mark.parametrize("size", SIZES)
def test_frequencies(size):
    frequencies = kernels.fourier_frequencies(size)
    height, width = size
    assert frequencies.dtype == np.float32
    assert frequencies.shape == kernels.spectrum_shape(1, size)[2:4] == (height, width // 2 + 1)
    for u, v in np.ndindex(frequencies.shape):
        expected = np.hypot(min(u, height - u) / height, v / width)
        np.testing.assert_allclose(frequencies[u, v], expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decay", [1.0, 0.5])
@pytest.mark.parametrize("size", SIZES)
def test_fourier_image_gradient_is_the_tapes(size, decay, dtype):
    z, g = references.random(kernels.spectrum_shape(2, size, 2), 7, dtype), references.random((2, *size, 2), 8, dtype)
    by_hand = kernels.fourier_image_gradient(g, decay)
    assert by_hand.dtype == z.dtype
    (tape,) = references.tape_gradient(lambda z: kernels.fourier_image(z, size, decay), [z], g)
    references.close(by_hand, tape, kind="gradient")


# High-frequency energy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [RADIUS, -1.0, 0.0])
@pytest.mark.parametrize("size", SIZES)
def test_energy_is_the_references(size, radius, dtype):
    images = references.random((2, *size, 2), 21, dtype)
    energy = kernels.high_frequency_energy(images, radius)
    assert energy.dtype == images.dtype
    expected = kernels.high_frequency_energy_reference(float64(images), radius)
    if size == (1, 1) and radius == 0:  # nothing but the mean
        assert not energy.numpy().any() and not expected.any()
    references.close(energy, expected)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.0, 0.8), st.integers(0, 99))
def test_energy_above_plus_below_is_the_mean_square(height, width, radius, seed):
    images = references.random((2, height, width, 2), seed, "float64").numpy()
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    below = np.fft.ifft2(np.fft.fft2(images, axes=(1, 2)) * (frequency <= radius)[..., None], axes=(1, 2)).real
    mean_square = (images**2).mean((1, 2, 3))
    above = kernels.high_frequency_energy(images, radius).numpy()
    np.testing.assert_allclose(above + (below**2).mean((1, 2, 3)), mean_square, rtol=1e-12)
    np.testing.assert_allclose(kernels.high_frequency_energy(images, -1), mean_square, rtol=1e-12)


@pytest.mark.parametrize("width", [16, 15])
@pytest.mark.parametrize(("u", "v"), [(0, 0), (1, 2), (0, 4), (0, 5), (3, 3), (5, 0), (0, 7), (8, 0), (7, 7)])
def test_a_cosine_lands_on_its_side_of_a_quarter(u, v, width):
    y, x = np.indices((16, width))
    wave = np.cos(2 * np.pi * (u * y / 16 + v * x / width))[None, :, :, None]
    energy = kernels.high_frequency_energy(tf.constant(wave)).numpy()[0]
    above = (u / 16) ** 2 + (v / width) ** 2 > 0.25**2  # a wave of exactly a quarter is not above it
    np.testing.assert_allclose(energy, (wave**2).mean() if above else 0, rtol=1e-12, atol=1e-12)


def test_blur_takes_high_frequencies_away_and_variation_too():
    images = references.random((2, 16, 16, 3), 22)
    blurred = kernels.gaussian_blur(images, 1.0)
    for measure in (kernels.high_frequency_energy, kernels.total_variation):
        assert (measure(blurred).numpy() < 0.3 * measure(images).numpy()).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("radius", [RADIUS, -1.0])
@pytest.mark.parametrize("size", SIZES)
def test_energy_gradient_is_the_tapes(size, radius, dtype):
    images = references.random((2, *size, 2), 23, dtype)
    by_hand = kernels.high_frequency_energy_gradient(images, radius)
    assert by_hand.dtype == images.dtype
    (tape,) = references.tape_gradient(lambda x: kernels.high_frequency_energy(x, radius), [images], None)
    references.close(by_hand, tape, kind="gradient")


# All of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "dtype"), [((6, 8), "float32"), ((5, 7), "float32"), ((1, 1), "float32"), ((4, 7), "bfloat16")]
)
def test_same_everywhere(size, dtype):
    images, z = (
        references.random((2, *size, 2), 25, dtype),
        references.random(kernels.spectrum_shape(2, size, 2), 26, dtype),
    )

    def everything(images, z):
        of_images = kernels.total_variation, kernels.total_variation_gradient, kernels.high_frequency_energy
        return [
            kernels.fourier_image(z, size),
            *references.tape_gradient(lambda z: kernels.fourier_image(z, size), [z], images),
            kernels.fourier_image_gradient(images),
            kernels.gaussian_blur(images, 1.3),
            *(function(images) for function in of_images),
            *references.tape_gradient(kernels.high_frequency_energy, [images], None),
            kernels.high_frequency_energy_gradient(images),
        ]

    references.same_everywhere(everything, images, z, kind="gradient")


@pytest.mark.parametrize("size", [(1, 1), (5, 4), (4, 7)])
def test_gradients_are_the_differences(size):
    """Random images have no two neighbors nearer than the step, so that their variation has a gradient."""
    x, g = (references.random((2, *size, 2), seed, "float64") for seed in (9, 10))
    z = references.random(kernels.spectrum_shape(2, size, 2), 16, "float64")
    for function, gradient, tensor in (
        (lambda z: g * kernels.fourier_image(z, size), kernels.fourier_image_gradient(g), z),
        (lambda x: g * kernels.gaussian_blur(x, 1.2), kernels.gaussian_blur_gradient(g, 1.2), x),
        (kernels.total_variation, kernels.total_variation_gradient(x), x),
        (kernels.high_frequency_energy, kernels.high_frequency_energy_gradient(x), x),
    ):
        references.central_difference(lambda t, function=function: tf.reduce_sum(function(t)), [gradient], tensor)


def test_unknown_batch():
    def there_and_back(z):
        x = kernels.gaussian_blur(kernels.fourier_image(z, (5, 6)), 1.0)
        energies = kernels.total_variation(x), kernels.high_frequency_energy(x)
        gradients = kernels.total_variation_gradient(x), kernels.high_frequency_energy_gradient(x)
        return x, *energies, *gradients, kernels.fourier_image_gradient(x)

    z = references.random((2, 3, 5, 4, 2), 27)
    compiled = tf.function(there_and_back, input_signature=[tf.TensorSpec([2, None, 5, 4, 2])])
    image = [None, 5, 6, 2]
    shapes = [image, [None], [None], image, image, [2, None, 5, 4, 2]]
    assert [s.as_list() for s in compiled.get_concrete_function().output_shapes] == shapes
    for ours, eager in zip(compiled(z), there_and_back(z), strict=True):
        references.close(ours, eager, kind="gradient")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.floats(0, 2), st.floats(0, 5), st.integers(0, 99))
def test_linear_kernels_and_their_gradients_are_adjoint(height, width, decay, sigma, seed):
    z = references.random(kernels.spectrum_shape(2, (height, width), 1), seed, "float64")
    x, g = (references.random((2, height, width, 1), seed + i, "float64") for i in (1, 2))
    image, blurred = kernels.fourier_image(z, (height, width), decay), kernels.gaussian_blur(x, sigma)
    for there, back in (
        (image * g, z * kernels.fourier_image_gradient(g, decay)),
        (blurred * g, x * kernels.gaussian_blur_gradient(g, sigma)),
    ):
        scale = tf.reduce_sum(tf.abs(there)).numpy()
        np.testing.assert_allclose(tf.reduce_sum(there), tf.reduce_sum(back), rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize(
    "shape", [(2, 1, 5, 3), (2, 1, 5, 5, 3), (3, 1, 5, 3, 3), (1, 2, 5, 3, 3), (2, 1, 4, 3, 3), (2, 1, 5, 3, 3, 1)]
)
def test_a_spectrum_of_another_shape_says_what_was_expected(shape):
    with pytest.raises(ValueError, match=r"5×5 pixels from a spectrum .* expected .* \[2,B,5,3,C\]"):
        kernels.fourier_image(tf.ones(shape), 5)


@pytest.mark.parametrize("size", [0, (4, -1), (4, 4, 4), 2.5])
def test_a_size_that_is_none(size):
    for function in (kernels.fourier_frequencies, lambda s: kernels.spectrum_shape(1, s)):
        with pytest.raises(ValueError, match="size is"):
            function(size)
    with pytest.raises(ValueError, match="size is"):
        kernels.fourier_image(tf.ones((2, 1, 4, 3, 1)), size)


@pytest.mark.parametrize("sigma", [-0.1, float("nan"), float("inf"), "1", None])
def test_a_sigma_that_is_none(sigma):
    for function in (kernels.gaussian_blur, kernels.gaussian_blur_gradient):
        with pytest.raises(ValueError, match=r"sigma is .* expected the width of a blur"):
            function(tf.ones((1, 3, 3, 1)), sigma)


@pytest.mark.parametrize(
    ("function", "verb"),
    [
        (lambda x: kernels.gaussian_blur(x, 1.0), "blur"),
        (kernels.fourier_image_gradient, "differentiate"),
        (kernels.total_variation, "take the variation of"),
        (kernels.total_variation_gradient, "take the variation of"),
        (kernels.high_frequency_energy, "measure"),
        (kernels.high_frequency_energy_gradient, "measure"),
    ],
)
def test_images_of_another_shape_say_what_was_expected(function, verb):
    with pytest.raises(ValueError, match=rf"cannot {verb} images .* expected \[B,H,W,C\]"):
        function(tf.ones((5, 5, 3)))


def test_cost():
    """8 × 8 pixels: a transform takes 2.5 · 64 · log₂ 64 = 960 operations, and gives 8 · 5 coefficients."""
    shape = (2, 8, 8, 3)
    assert kernels.fourier_image_cost(shape) == Cost(0, 6 * (960 + 80), 6 * (960 + 80))
    assert kernels.high_frequency_energy_cost(shape) == Cost(0, 6 * (960 + 200), 6 * (2 * 960 + 80))
    assert kernels.gaussian_blur_cost((2, 8, 4, 3)) == Cost(0, 192 * 24, 192 * 24)
    assert kernels.total_variation_cost((2, 8, 4, 3)) == Cost(0, 6 * 52 * 3, 6 * 52 * 4)
    assert kernels.fourier_image_cost((1, 1, 1, 1)) == Cost(0, 2, 2)
