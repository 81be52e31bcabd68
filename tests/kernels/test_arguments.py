"""What public kernels take: tensors, variables, arrays and lists; ints of Python and NumPy; no bools, no mixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import kernels
from tests import references


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).random(shape, np.float32)


X, DX, SMALL, ROWS, C, FILTERS = array(2, 6, 8, 4), array(2, 6, 8, 4), array(2, 3, 4, 4), array(2, 4), array(4), None
FILTERS = array(3, 3, 2, 6)
SEED, LABELS, SWITCHES = np.array([0, 1]), np.array([1, 3]), np.zeros((2, 3, 4, 4), np.int32)
SHAPE, HALF = (2, 6, 8, 4), (2, 3, 4, 4)
NORM = {"mean": C, "variance": C, "scale": C, "offset": C, "epsilon": 1e-3}
# A call of each public kernel: arrays for tensors.
CALLS: dict[str, dict[str, Any]] = {
    "affine_resample": {"images": X, "transforms": array(2, 2, 3), "size": 5},
    "affine_resample_cost": {"output_shape": SHAPE},
    "affine_resample_image_gradient": {"gradient": X, "transforms": array(2, 2, 3), "input_size": (6, 8)},
    "average_pool": {"x": X, "size": 2, "stride": 2},
    "average_pool_input_gradient": {"gradient": SMALL, "input_size": (6, 8), "size": 2, "stride": 2},
    "batch_normalization": {"x": X, **NORM},
    "batch_normalization_cost": {"input_shape": SHAPE},
    "batch_normalization_gradient": {
        "x": X, "gradient": DX, "scale": C, "mean": C, "variance_biased": C, "epsilon": 1e-3
    },
    "batch_normalization_inference_gradient": {
        "x": X, "gradient": DX, "scale": C, "mean": C, "variance": C, "epsilon": 1e-3
    },
    "batch_normalization_training": {"x": X, "scale": C, "offset": C, "epsilon": 1e-3},
    "biased_variance": {"x": X, "variance": C},
    "blur_matrix": {"length": 4, "sigma": 1.0},
    "concatenate": {"branches": [X, DX]},
    "concatenate_cost": {"output_shape": SHAPE},
    "concatenate_gradient": {"gradient": X, "channels": (1, 3)},
    "conv2d": {"x": X, "filters": FILTERS, "stride": 2, "padding": ((1, 1), (1, 1)), "dilation": 1, "groups": 2},
    "conv2d_bias_gradient": {"gradient": X},
    "conv2d_cost": {"filter_shape": (3, 3, 2, 6), "output_shape": SHAPE},
    "conv2d_filter_gradient": {"x": X, "gradient": array(2, 6, 8, 6), "filter_size": 3, "groups": 2},
    "conv2d_input_gradient": {"gradient": array(2, 6, 8, 6), "filters": FILTERS, "input_size": (6, 8), "groups": 2},
    "conv2d_transpose": {"x": array(2, 3, 4, 6), "filters": FILTERS, "stride": 2, "groups": 2, "output_size": (6, 8)},
    "conv2d_transpose_cost": {"filter_shape": (3, 3, 2, 6), "input_shape": SHAPE},
    "crop_resize_transforms": {"boxes": array(2, 4), "size": 5},
    "cross_entropy": {"logits": ROWS, "labels": LABELS, "label_smoothing": 0.1},
    "cross_entropy_cost": {"input_shape": (2, 4)},
    "cross_entropy_gradient": {"logits": ROWS, "labels": LABELS, "label_smoothing": 0.1},
    "deconvnet_relu": {"x": X},
    "deconvnet_relu_gradient": {"x": X, "gradient": DX},
    "dense": {"x": ROWS, "weights": array(4, 3), "bias": array(3)},
    "dense_cost": {"input_shape": (2, 4), "output_shape": (2, 3)},
    "dense_gradient": {"x": ROWS, "weights": array(4, 3), "gradient": array(2, 3)},
    "drop_path": {"x": X, "rate": 0.5, "seed": SEED},
    "drop_path_cost": {"input_shape": SHAPE},
    "drop_path_gradient": {"gradient": X, "rate": 0.5, "seed": SEED},
    "dropout": {"x": X, "rate": 0.5, "seed": SEED},
    "dropout_cost": {"input_shape": SHAPE},
    "dropout_gradient": {"gradient": X, "rate": 0.5, "seed": SEED},
    "dropout_mask": {"shape": SHAPE, "rate": 0.5, "seed": SEED},
    "elementwise_cost": {"shape": SHAPE, "forward": 2, "backward": 3},
    "encode_levels": {"x": X, "levels": 4, "code": "onehot"},
    "encode_levels_cost": {"output_shape": SHAPE},
    "fold_batch_normalization": {"filters": array(3, 3, 2, 4), "bias": C, **NORM},
    "fourier_frequencies": {"size": 6},
    "fourier_image": {"spectrum": array(2, 1, 6, 5, 3), "size": (6, 8), "decay": 1.0},
    "fourier_image_cost": {"output_shape": SHAPE},
    "fourier_image_gradient": {"gradient": X, "decay": 1.0},
    "gaussian_blur": {"images": X, "sigma": 1.0},
    "gaussian_blur_cost": {"input_shape": SHAPE},
    "gaussian_blur_gradient": {"gradient": X, "sigma": 1.0},
    "global_average_pool": {"x": X},
    "global_average_pool_cost": {"input_shape": SHAPE},
    "global_average_pool_input_gradient": {"gradient": ROWS, "input_size": (6, 8)},
    "guided_relu": {"x": X},
    "guided_relu_gradient": {"x": X, "gradient": DX},
    "high_frequency_energy": {"images": X, "radius": 0.2},
    "high_frequency_energy_cost": {"input_shape": SHAPE},
    "high_frequency_energy_gradient": {"images": X, "radius": 0.2},
    "join_codes": {"p": array(2, 3, 4, 2, 5), "code": "thermometer"},
    "join_codes_gradient": {"gradient": X, "levels": 2, "code": "thermometer"},
    "level_of": {"x": X, "levels": 4},
    "local_response_normalization": {"x": X, "radius": 2, "bias": 2.0, "alpha": 1e-4, "beta": 0.75},
    "local_response_normalization_cost": {"input_shape": SHAPE, "radius": 2},
    "local_response_normalization_input_gradient": {"x": X, "gradient": DX, "radius": 2},
    "log_softmax": {"logits": ROWS},
    "log_softmax_gradient": {"log_probabilities": ROWS, "gradient": array(2, 4)},
    "max_pool": {"x": X, "size": 2, "stride": (2, 2), "padding": ((0, 1), (0, 1))},
    "max_pool_input_gradient": {"x": X, "gradient": SMALL, "size": 2, "stride": 2},
    "max_pool_switches": {"x": X, "size": 2, "stride": 2},
    "max_unpool": {"pooled": SMALL, "switches": SWITCHES, "size": 2, "stride": 2, "input_size": (6, 8)},
    "pool_cost": {"input_shape": SHAPE, "output_shape": HALF, "size": 2},
    "redirected_relu": {"x": X},
    "redirected_relu_gradient": {"x": X, "gradient": DX},
    "relu": {"x": X},
    "relu_cost": {"input_shape": SHAPE},
    "relu_gradient": {"x": X, "gradient": DX},
    "residual_sum": {"x": X, "shortcut": DX},
    "residual_sum_cost": {"input_shape": SHAPE},
    "residual_sum_gradient": {"gradient": X},
    "rotation_translation": {"angles": array(2), "shifts": array(2, 2), "size": 5},
    "scale_channels": {"x": X, "scales": ROWS},
    "scale_channels_cost": {"input_shape": SHAPE},
    "scale_channels_gradient": {"x": X, "scales": ROWS, "gradient": DX},
    "scaled_residual_sum": {"x": X, "residual": DX, "scale": 0.5},
    "scaled_residual_sum_cost": {"input_shape": SHAPE},
    "scaled_residual_sum_gradient": {"gradient": X, "scale": 0.5},
    "sigmoid": {"x": X},
    "sigmoid_cost": {"input_shape": SHAPE},
    "sigmoid_gradient": {"y": X, "gradient": DX},
    "smoothed_targets": {"labels": LABELS, "classes": 4, "label_smoothing": 0.1},
    "softmax": {"logits": ROWS},
    "softmax_cost": {"input_shape": (2, 4)},
    "softmax_gradient": {"probabilities": ROWS, "gradient": array(2, 4)},
    "spectrum_shape": {"batch": 2, "size": 6, "channels": 3},
    "total_variation": {"images": X},
    "total_variation_cost": {"input_shape": SHAPE},
    "total_variation_gradient": {"images": X},
    "weight_decay": {"variables": [X, ROWS]},
    "weight_decay_cost": {"input_shape": SHAPE},
    "weight_decay_gradient": {"variables": [X, ROWS]},
    "winograd_multiplications": {"output_shape": SHAPE, "channels": 4},
    "zero_padded_shortcut": {"x": X, "channels": 8, "stride": 2},
    "zero_padded_shortcut_cost": {"input_shape": SHAPE, "output_shape": HALF},
    "zero_padded_shortcut_gradient": {"gradient": array(2, 3, 4, 8), "input_shape": SHAPE, "stride": 2},
}  # fmt: skip
by_name = pytest.mark.parametrize("name", CALLS)


def call(name: str, **changes: Any) -> list:
    """The results of a call with some arguments changed, as arrays."""
    found = tf.nest.flatten(getattr(kernels, name)(**(CALLS[name] | changes)))
    return [np.asarray(value) if tf.is_tensor(value) else value for value in found]


def mapped(name: str, change) -> dict[str, Any]:
    """All arguments, changed leaf by leaf; a leaf is an array, an int, a float or a word."""
    return {key: tf.nest.map_structure(change, value) for key, value in CALLS[name].items()}


def equal(found: list, expected: list) -> None:
    for actual, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, np.ndarray) and wanted.dtype.kind != "i":
            references.close(actual, wanted)
        elif isinstance(wanted, np.ndarray):
            np.testing.assert_array_equal(actual, wanted)
        else:
            assert actual == wanted and type(actual) is type(wanted)


def test_every_public_kernel_is_in_the_table():
    functions = {name for name in kernels.__all__ if not name.endswith("_reference")} - {"Cost"}
    assert functions == CALLS.keys()


@by_name
def test_arrays_tensors_variables_and_lists(name):
    expected = call(name, **mapped(name, lambda v: tf.constant(v) if isinstance(v, np.ndarray) else v))
    equal(call(name), expected)
    equal(call(name, **mapped(name, lambda v: tf.Variable(v) if isinstance(v, np.ndarray) else v)), expected)
    lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in CALLS[name].items()}
    equal(call(name, **lists), expected)


@by_name
def test_numbers_of_numpy(name):
    """Ints and floats of NumPy, wherever an int or a float stands, also within pairs and shapes."""

    def of_numpy(value):
        if isinstance(value, int):
            return np.int64(value)
        return np.float32(value) if isinstance(value, float) else value

    equal(call(name, **mapped(name, of_numpy)), call(name))


def cases(kind: type) -> Iterator[tuple[str, str]]:
    """(kernel, argument) of every argument of this kind; a pair or a shape counts as an int."""
    for name, arguments in CALLS.items():
        for key, value in arguments.items():
            if isinstance(value, kind) or (kind is int and isinstance(value, tuple)):
                yield name, key


@pytest.mark.parametrize(("name", "argument"), cases(int))
@pytest.mark.parametrize("wrong", [True, np.True_, 2.0, np.float64(2), "2"], ids=repr)
def test_what_is_no_int_is_refused(name, argument, wrong):
    value = CALLS[name][argument]
    changed = tf.nest.map_structure(lambda _: wrong, value)
    with pytest.raises(ValueError) as raised:
        call(name, **{argument: changed})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "argument"), cases(float))
@pytest.mark.parametrize("wrong", [True, np.False_, "0.5", [0.5, 0.5]], ids=repr)
def test_what_is_no_number_is_refused(name, argument, wrong):
    with pytest.raises(ValueError, match=f"{argument} is .*; expected"):
        call(name, **{argument: wrong})


@pytest.mark.parametrize(("name", "argument"), cases(np.ndarray))
def test_other_types_are_refused(name, argument):
    """Ints and bools where floats are expected, floats where ints are; words and ragged lists everywhere."""
    value = CALLS[name][argument]
    integral = value.dtype.kind == "i"
    wrong: list[Any] = [value.astype(bool), "image", [[1.0], [1.0, 2.0]], None]
    wrong += [value.astype(np.float32)] if integral else [value.astype(np.int32), value.astype(np.uint8).tolist()]
    for other in wrong:
        if other is None and argument in ("scale", "offset", "bias"):
            continue
        with pytest.raises(ValueError) as raised:
            call(name, **{argument: other})
        assert argument in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "argument"), cases(np.ndarray))
def test_mixed_types_are_refused_or_cast(name, argument):
    """A float64 among float32; statistics, weights and transforms may have a type of their own."""
    value = CALLS[name][argument]
    others = [v for k, v in CALLS[name].items() if k != argument and isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    if value.dtype.kind != "f" or not others:
        return
    try:
        call(name, **{argument: value.astype(np.float64)})
    except ValueError as error:
        assert "expected one type" in str(error) and argument in str(error) and "\n" not in str(error)
        assert argument not in OWN_TYPE


OWN_TYPE = {"mean", "variance", "scale", "offset", "weights", "bias", "transforms"}


def test_the_message_of_mixed_types():
    with pytest.raises(ValueError, match=r"^x is float64 and filters is float32; expected one type: cast one"):
        kernels.conv2d(tf.cast(X, "float64"), FILTERS, groups=2)
    with pytest.raises(ValueError, match=r"^branches is float32 and branches is float64"):
        kernels.concatenate([X, tf.cast(X, "float64")])


def test_ints_have_no_softmax():
    with pytest.raises(ValueError, match=r"^logits is int32 \(3,\); expected floats"):
        kernels.softmax([1, 2, 3])
    with pytest.raises(ValueError, match="groups is True; expected a divisor"):
        kernels.conv2d(X, FILTERS, groups=True)
    with pytest.raises(ValueError, match="stride is True; expected a positive int"):
        kernels.conv2d(X, FILTERS, stride=True, groups=2)


def test_functions_keep_their_names_and_signatures():
    from inspect import signature

    assert kernels.conv2d.__name__ == "conv2d" and list(signature(kernels.conv2d).parameters)[:2] == ["x", "filters"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'strides'"):
        kernels.conv2d(X, FILTERS, strides=2)
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        kernels.relu(X, X)


MAPS = (  # kernels that read whole maps, so that x must be [B,H,W,C]
    "average_pool", "conv2d", "encode_levels", "global_average_pool", "local_response_normalization", "max_pool",
    "max_pool_switches", "scale_channels", "zero_padded_shortcut",
)  # fmt: skip


@pytest.mark.parametrize("name", MAPS)
def test_what_is_no_map_is_refused(name):
    for x in (array(4), array(2, 4), array(2, 8, 4), array(1, 2, 6, 8, 4)):
        with pytest.raises(ValueError) as raised:
            call(name, x=x)
        message = str(raised.value)
        assert str(x.shape) in message and "expected" in message and "\n" not in message


# Other values and shapes ---------------------------------------------------------------------------------------------

IMAGES, THREE, LOGITS = array(2, 6, 7, 4), array(3, 3, 4, 4), array(2, 4)


def refused(call, *parts: str) -> None:
    """The call raises a ValueError of one line with the `parts`."""
    with pytest.raises(ValueError) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message and all(part in message for part in parts), message


def test_scalar_arrays_and_tensors_are_ints_and_numbers():
    conv = kernels.conv2d(IMAGES, THREE, 2, ((1, 1), (0, 1)), 2, 1)
    for kind in (np.array, tf.constant, np.int32, lambda v: np.array(v, np.uint8)):
        pads = np.array([[1, 1], [0, 1]]) if kind is not tf.constant else tf.constant([[1, 1], [0, 1]])
        found = kernels.conv2d(IMAGES, THREE, kind(2), pads, (kind(2), kind(2)), kind(1))
        np.testing.assert_array_equal(found, conv)
        pooled = kernels.max_pool(IMAGES, kind(3), np.array([2, 1]), pads)
        np.testing.assert_array_equal(pooled, kernels.max_pool(IMAGES, 3, (2, 1), ((1, 1), (0, 1))))
    normal = kernels.batch_normalization(IMAGES, C, C, C, C, 1e-3)
    for epsilon in (np.array(1e-3), np.float32(1e-3), tf.constant(1e-3)):
        np.testing.assert_allclose(kernels.batch_normalization(IMAGES, C, C, C, C, epsilon), normal, rtol=1e-6)
    resampled = kernels.affine_resample(IMAGES, array(2, 2, 3), size=np.array([3, 5]))
    assert resampled.shape == (2, 3, 5, 4)


@pytest.mark.parametrize("value", [10**10, 2**31, -1, 0, np.array([[1, 1]]), np.ones((2, 2), int), 2.0, np.array(2.0)])
def test_a_stride_that_is_no_count_of_pixels(value):
    """TensorFlow's graph optimizer ends the process for a stride beyond 32 bits."""
    for call in (
        lambda: kernels.conv2d(IMAGES, THREE, stride=value),
        lambda: kernels.conv2d(IMAGES, THREE, dilation=value),
        lambda: kernels.max_pool(IMAGES, value, 1, "SAME"),
        lambda: kernels.average_pool(IMAGES, 2, value),
    ):
        refused(call, "expected")


def test_windows_that_no_kernel_can_compute():
    refused(lambda: kernels.conv2d(IMAGES, THREE, dilation=2**31 - 1), "dilation is", "at most")
    for pool in (kernels.max_pool, kernels.average_pool):
        refused(lambda pool=pool: pool(IMAGES, 2**31 - 1, 1, "SAME"), "size is", "at most 32,768")
    refused(lambda: kernels.gaussian_blur(IMAGES, 1e30), "sigma is 1e+30", "10,000")
    for length in (5, 50):
        np.testing.assert_allclose(
            kernels.blur_matrix(length, 9999.0), np.full((length, length), 1 / length), rtol=1e-3
        )


PADDINGS = [2, 2.5, None, "same", np.array([2, 2]), np.array(2), tf.constant(2), np.ones((2, 2)), ((1, 1), (1, -1)),
            ((1, 1), (1, 2**31)), ((True, 1), (1, 1)), {}]  # fmt: skip


@pytest.mark.parametrize("value", PADDINGS, ids=lambda value: " ".join(repr(value).split()))
def test_paddings_that_are_none(value):
    for call in (
        lambda: kernels.conv2d(IMAGES, THREE, padding=value),
        lambda: kernels.max_pool(IMAGES, 3, 2, value),
        lambda: kernels.average_pool(IMAGES, 3, 2, value),
    ):
        refused(call, "padding", "expected")


def test_a_padding_of_a_graph():
    traced = tf.function(lambda pads: kernels.max_pool(IMAGES, 3, 2, pads), autograph=False)
    refused(lambda: traced(tf.constant([[1, 1], [0, 1]])), "padding is a tensor of a graph; expected pixels")


NOT_FINITE = [float("nan"), float("inf"), np.float32("nan"), np.array(-np.inf)]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_numbers_that_are_not_finite(value):
    for call in (
        lambda: kernels.batch_normalization(IMAGES, C, C, C, C, value),
        lambda: kernels.batch_normalization_training(IMAGES, C, C, value),
        lambda: kernels.dropout(IMAGES, value, [0, 1]),
        lambda: kernels.cross_entropy(LOGITS, [0, 1], value),
        lambda: kernels.local_response_normalization(IMAGES, alpha=value),
        lambda: kernels.scaled_residual_sum(IMAGES, IMAGES, value),
        lambda: kernels.gaussian_blur(IMAGES, value),
    ):
        refused(call, "expected")
    outside = kernels.affine_resample(IMAGES, np.full((2, 2, 3), 99, np.float32), fill=value)  # a pixel may have any
    assert not np.isfinite(outside).any()


WRONG = {
    "an epsilon below 0": (lambda: kernels.batch_normalization(IMAGES, C, C, C, C, -1e-3), "epsilon is -0.001"),
    "mean of 3 channels": (lambda: kernels.batch_normalization(IMAGES, C[:3], C, C, C, 0.1), "mean has shape (3,)"),
    "scale of rank 2": (lambda: kernels.batch_normalization(IMAGES, C, C, LOGITS, C, 0.1), "scale has shape (2, 4)"),
    "offset of 2": (lambda: kernels.batch_normalization_training(IMAGES, C, C[:2], 0.1), "offset has shape (2,)"),
    "a bias of 3 units": (lambda: kernels.dense(LOGITS, THREE[0, 0], C[:3]), "bias has shape (3,)"),
    "weights of rank 1": (lambda: kernels.dense(LOGITS, C), "does not fit"),
    "filters without outputs": (lambda: kernels.conv2d(IMAGES, THREE[..., :0]), "filters have shape (3, 3, 4, 0)"),
    "channels of other groups": (lambda: kernels.conv2d(IMAGES, THREE, groups=2), "expected filters [kh,kw,C/groups"),
    "images without rows": (lambda: kernels.max_pool(IMAGES[:, :0], 2, 2), "image size is (0, 7)"),
    "a gradient of another size": (lambda: kernels.max_pool_input_gradient(IMAGES, IMAGES, 2, 2), "pools to (3, 3)"),
    "a size of three": (
        lambda: kernels.max_unpool(SMALL, SWITCHES, 2, 2, input_size=(6, 8, 4)), "input_size is (6, 8, 4)"
    ),
    "gates of another batch": (lambda: kernels.scale_channels(IMAGES, array(3, 4)), "scales (3, 4) do not fit"),
    "labels of another batch": (lambda: kernels.cross_entropy(LOGITS, [0, 1, 2]), "do not fit labels (3,)"),
    "logits of no class": (lambda: kernels.cross_entropy(LOGITS[:, :0], [0, 1]), "logits (2, 0) do not fit"),
    "logits of maps": (lambda: kernels.cross_entropy(IMAGES[:, 0], [0, 1]), "do not fit"),
    "logits that are a scalar": (lambda: kernels.softmax(1.0), "logits is a scalar"),
    "responses of vectors": (lambda: kernels.local_response_normalization(LOGITS), "expected [B,H,W,C]"),
    "a radius below 0": (lambda: kernels.local_response_normalization(IMAGES, -1), "radius is -1"),
    "a form that is no text": (lambda: kernels.conv2d(IMAGES, THREE, algorithm=np.array(["nn"])), "algorithm is array"),
    "a count for a truth": (lambda: kernels.average_pool(IMAGES, 2, 2, count_padding=1), "expected True or False"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_in_a_sentence(name):
    call, message = WRONG[name]
    refused(call, message, "expected")


def test_wide_blurs_average_and_truth_values_of_numpy_are_taken():
    found = kernels.average_pool(IMAGES, 3, 2, "SAME", count_padding=np.True_)
    np.testing.assert_array_equal(found, kernels.average_pool(IMAGES, 3, 2, "SAME", count_padding=True))
