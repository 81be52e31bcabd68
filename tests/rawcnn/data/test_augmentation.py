"""Augmentations: exact where they move pixels, by their statistics where they draw, the same under XLA."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from rawcnn.data import augmentation as A
from rawcnn.nn.preprocessing import center_crop
from tests import references

SEED = tf.constant([3, 5])


def ramp(batch: int, height: int, width: int) -> tf.Tensor:
    """Every pixel its own color (row, column, image), so that a result says where it comes from."""
    b, i, j = np.meshgrid(np.arange(batch), np.arange(height), np.arange(width), indexing="ij")
    return tf.constant(np.stack([i / height, j / width, b / batch], -1).astype(np.float32))


CASES = {
    "flip": lambda x, s: A.flip(x, s),
    "random_crop": lambda x, s: A.random_crop(x, (7, 5), s),
    "pad_crop": lambda x, s: A.pad_crop(x, 2, s),
    "shift": lambda x, s: A.shift(x, 1, s),
    "lighting": lambda x, s: A.lighting(x, s),
    "area_crop": lambda x, s: A.area_crop(x, (6, 7), s),
    "scale_jitter_crop": lambda x, s: A.scale_jitter_crop(x, 8, s, (10, 20)),
    "color_jitter": lambda x, s: A.color_jitter(x, s),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", CASES)
def test_eager_graph_and_xla_agree(name):
    references.same_everywhere(CASES[name], ramp(6, 10, 12), SEED)


@pytest.mark.parametrize("name", CASES)
def test_a_function_of_the_seed_alone(name):
    images = ramp(16, 10, 12)
    first = CASES[name](images, SEED)
    np.testing.assert_array_equal(first, CASES[name](images, SEED))
    assert np.any(first.numpy() != CASES[name](images, SEED + 1).numpy())


@pytest.mark.parametrize("name", CASES)
def test_dtype_stays_and_the_batch_may_be_unknown(name):
    images = tf.cast(ramp(4, 10, 12), tf.bfloat16)
    signature = [tf.TensorSpec((None, 10, 12, 3), tf.bfloat16), tf.TensorSpec((2,), tf.int32)]
    result = tf.function(CASES[name], input_signature=signature)(images, SEED)
    assert result.dtype == tf.bfloat16
    references.close(result, CASES[name](images, SEED))


def test_flip_mirrors_half_of_the_images():
    images = ramp(400, 2, 4)
    flipped = A.flip(images, SEED).numpy()
    mirrored = [np.array_equal(f, x[:, ::-1]) for f, x in zip(flipped, images.numpy(), strict=True)]
    same = [np.array_equal(f, x) for f, x in zip(flipped, images.numpy(), strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 160 < sum(mirrored) < 240  # 4 standard deviations


def test_random_crop_is_a_window_at_every_place():
    images = ramp(200, 6, 9).numpy()
    crops = A.random_crop(images, (4, 6), SEED).numpy()
    corners = set()
    for image, crop in zip(images, crops, strict=True):
        i, j = round(float(crop[0, 0, 0]) * 6), round(float(crop[0, 0, 1]) * 9)
        np.testing.assert_array_equal(crop, image[i : i + 4, j : j + 6])
        corners.add((i, j))
    assert corners == {(i, j) for i in range(3) for j in range(4)}


def test_pad_crop_is_a_window_of_the_padded_image():
    images = 1 + ramp(100, 5, 4).numpy()
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = [[padded[:, i : i + 5, j : j + 4] for j in range(5)] for i in range(5)]
    results = A.pad_crop(tf.constant(images), 2, SEED).numpy()
    seen = set()
    for b, result in enumerate(results):
        places = [(i, j) for i in range(5) for j in range(5) if np.array_equal(result, windows[i][j][b])]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 25


def test_lighting_has_the_covariance_of_the_components():
    images = tf.fill((20_000, 1, 1, 3), 0.5)
    light = (A.lighting(images, SEED, std=0.1) - images).numpy().reshape(-1, 3)
    vectors, values = np.array(A.EIGENVECTORS), np.array(A.EIGENVALUES)
    expected = vectors @ np.diag((0.1 * values) ** 2) @ vectors.T
    np.testing.assert_allclose(np.cov(light.T), expected, atol=0.05 * expected.max())
    np.testing.assert_allclose(light.mean(0), 0, atol=1e-3)


def test_components_are_orthonormal():
    vectors = np.array(A.EIGENVECTORS)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-4)


def test_lighting_is_one_color_an_image():
    light = (A.lighting(ramp(3, 4, 5), SEED) - ramp(3, 4, 5)).numpy()
    assert np.ptp(light, axis=(1, 2)).max() < 1e-6 < np.ptp(light[:, 0, 0], axis=0).min()


def test_color_jitter_blends_in_a_random_order():
    """Each result is one of the six orders of brightness, contrast and saturation, with factors within bounds."""
    rng = np.random.default_rng(0)
    images = rng.random((60, 3, 4, 3)).astype(np.float32)
    results = A.color_jitter(tf.constant(images), SEED, 0.4).numpy()
    u = A._uniform(tf.constant(images), SEED, 6).numpy().astype(np.float64)
    orders = set()
    for image, result, draws in zip(images.astype(np.float64), results, u, strict=True):
        factors, order = 0.6 + 0.8 * draws[:3], tuple(np.argsort(draws[3:]))
        orders.add(order)
        for change in order:
            grey = image @ [0.299, 0.587, 0.114]  # [H,W]
            towards = (np.zeros_like(image), np.full_like(image, grey.mean()), np.repeat(grey[..., None], 3, -1))
            image = factors[change] * image + (1 - factors[change]) * towards[change]
        references.close(result, image)
    assert len(orders) == 6


def test_color_jitter_of_brightness_contrast_and_saturation_alone():
    """Brightness scales a white image; contrast and saturation leave it. Factors are uniform in 1 ± strength."""
    white = tf.ones((2000, 1, 1, 3))
    factors = A.color_jitter(white, SEED, 0.3).numpy()[:, 0, 0, 0]
    assert 0.7 <= factors.min() < 0.71 and 1.29 < factors.max() <= 1.3 and abs(factors.mean() - 1) < 0.02
    grey = tf.constant(np.random.default_rng(1).random((20, 4, 4, 1)), tf.float32) * tf.ones(3)
    assert np.ptp(A.color_jitter(grey, SEED).numpy(), axis=-1).max() < 1e-6  # saturation adds no colour


def boxes_of(crops: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths, in pixels, of the boxes that crops of a 64×64 `ramp` show: their middle's slope."""
    rows, columns = crops[:, :, size[1] // 2, 0] * 64, crops[:, size[0] // 2, :, 1] * 64
    middle = slice(size[0] // 4, -size[0] // 4)
    down, across = (np.diff(line, axis=1)[:, middle].mean(1) for line in (rows, columns))
    return down * size[0], across * size[1]


def test_area_crop_draws_areas_and_aspects_within_bounds():
    crops = A.area_crop(ramp(500, 64, 64), (32, 32), SEED, area=(0.2, 0.6)).numpy()
    height, width = boxes_of(crops, (32, 32))
    area, aspect = height * width / 64**2, width / height
    assert 0.19 < area.min() < 0.23 and 0.57 < area.max() < 0.61
    assert 0.74 < aspect.min() < 0.78 and 1.29 < aspect.max() < 1.34
    assert abs(np.mean(area) - 0.4) < 0.03 and abs(np.mean(np.log(aspect))) < 0.03


def test_area_crop_of_everything_is_the_image():
    images = ramp(3, 8, 8)
    references.close(A.area_crop(images, 8, SEED, area=(1.0, 1.0), aspect=(1.0, 1.0)), images)


def test_area_crop_fits_into_a_narrow_image():
    crops = A.area_crop(1 + ramp(100, 64, 16), 16, SEED, area=(0.9, 1.0)).numpy()
    assert crops.min() >= 1 - 1e-5 and crops[..., :2].max() < 2  # nothing from outside


def test_scale_jitter_crop_draws_scales_within_bounds():
    crops = A.scale_jitter_crop(ramp(300, 64, 64), (32, 32), SEED, shorter=(32, 64)).numpy()
    height, width = boxes_of(crops, (32, 32))
    np.testing.assert_allclose(height, width, rtol=1e-3)
    scale = 32 / height  # shorter side / 64
    assert 0.5 - 1e-3 < scale.min() < 0.52 and 0.98 < scale.max() < 1 + 1e-3


def test_scale_jitter_crop_without_jitter_is_a_crop():
    references.close(A.scale_jitter_crop(ramp(2, 8, 8), 8, SEED, shorter=(8, 8)), ramp(2, 8, 8))
    assert A.scale_jitter_crop(ramp(2, 8, 12), (8, 12), SEED, shorter=(12, 12)).shape == (2, 8, 12, 3)


def test_resampled_crops_have_no_dark_edges():
    white = tf.ones((50, 20, 20, 3))
    for crops in (A.area_crop(white, 40, SEED), A.scale_jitter_crop(white, 40, SEED, (40, 80))):
        references.close(crops, np.ones((50, 40, 40, 3)))


def test_center_crop():
    np.testing.assert_array_equal(center_crop(ramp(1, 7, 9), (3, 4)), ramp(1, 7, 9)[:, 2:5, 2:6])


def test_crops_that_do_not_fit():
    with pytest.raises(ValueError, match=r"a crop of \(9, 9\) does not fit into images of \(8, 8\)"):
        A.random_crop(ramp(1, 8, 8), 9, SEED)
    with pytest.raises(ValueError, match=r"a crop of \(9, 9\) does not fit"):
        center_crop(ramp(1, 8, 8), 9)
    with pytest.raises(ValueError, match="shorter side of 8"):
        A.scale_jitter_crop(ramp(1, 8, 8), 9, SEED, (8, 16))


# switch → its function, and the number of the seed that it draws from
SWITCHES = {
    "crop": ({"crop": 12}, 0, lambda x, s: A.random_crop(x, 12, s)),
    "area": ({"area": (0.2, 0.9)}, 0, lambda x, s: A.area_crop(x, (16, 14), s, (0.2, 0.9))),
    "area and crop": ({"area": (0.2, 0.9), "crop": 9}, 0, lambda x, s: A.area_crop(x, 9, s, (0.2, 0.9))),
    "jitter": ({"jitter": (13, 20), "crop": 12}, 0, lambda x, s: A.scale_jitter_crop(x, 12, s, (13, 20))),
    "pad": ({"pad": 4}, 1, lambda x, s: A.pad_crop(x, 4, s)),
    "shift": ({"shift": 2}, 2, lambda x, s: A.shift(x, 2, s)),
    "flip": ({"flip": True}, 3, lambda x, s: A.flip(x, s)),
    "lighting": ({"lighting": 0.2}, 4, lambda x, s: A.lighting(x, s, 0.2)),
    "color_jitter": ({"color_jitter": 0.3}, 5, lambda x, s: A.color_jitter(x, s, 0.3)),
}


def seed_number(number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(SEED, number, alg="philox")


@pytest.mark.parametrize("name", SWITCHES)
def test_each_switch_is_its_function(name):
    settings, number, function = SWITCHES[name]
    images = ramp(8, 16, 14)
    result = A.augment(images, SEED, A.Augmentation(**settings)).numpy()
    np.testing.assert_array_equal(result, function(images, seed_number(number)))
    assert np.any(result != center_crop(images, result.shape[1:3]).numpy())


def test_every_switch_is_tested():
    assert {name for settings, _, _ in SWITCHES.values() for name in settings} == set(vars(A.Augmentation()))


def test_switches_apply_in_a_fixed_order():
    images = ramp(8, 16, 14)
    names = ("crop", "pad", "shift", "flip", "color_jitter", "lighting")
    settings = {key: value for name in names for key, value in SWITCHES[name][0].items()}
    result = A.augment(images, SEED, A.Augmentation(**settings))
    for name in names:
        _, number, function = SWITCHES[name]
        images = function(images, seed_number(number))
    np.testing.assert_array_equal(result, images)


def test_augment_compiles():
    augmentation = A.Augmentation(flip=True, crop=6, area=(0.08, 1.0), lighting=0.1)
    references.same_everywhere(lambda x, s: A.augment(x, s, augmentation), ramp(4, 8, 8), SEED)


def test_no_augmentation_changes_nothing():
    np.testing.assert_array_equal(A.augment(ramp(2, 4, 4), SEED, A.Augmentation()), ramp(2, 4, 4))


def test_distortions_draw_from_seeds_of_their_own():
    """With one seed for all, an image's flip would tell its shift."""
    images = ramp(400, 4, 4)
    result = A.augment(images, SEED, A.Augmentation(flip=True, pad=1)).numpy()
    step = result[:, 1, 2, 1] - result[:, 1, 1, 1]
    flipped = step < 0
    moved = np.where(result[:, 0].max(axis=(1, 2)) == 0, 1, 0)  # a black first row: moved down
    assert 0.2 < moved[flipped].mean() < 0.5 and 0.2 < moved[~flipped].mean() < 0.5
