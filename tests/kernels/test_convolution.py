"""Convolution: every form against NumPy loops and each other, its gradients against the tape and differences."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels.dispatch.convolution import ALGORITHMS
from tests import references

# name: image, filters [kh,kw,C/groups,Cout], stride, padding, dilation, groups
CASES = {
    "odd sizes": ((2, 7, 5, 3), (3, 3, 3, 4), 1, "SAME", 1, 1),
    "padded 3×3": ((1, 6, 8, 2), (3, 3, 2, 3), 1, ((2, 1), (0, 3)), 1, 1),
    "even filter": ((1, 8, 9, 2), (2, 4, 2, 3), 1, "SAME", 1, 1),
    "even filter, stride 2": ((2, 7, 8, 2), (4, 2, 2, 3), 2, "VALID", 1, 1),
    "stride 3": ((1, 11, 10, 2), (3, 3, 2, 2), 3, "SAME", 1, 1),
    "stride wider than the filter": ((1, 7, 8, 2), (1, 1, 2, 3), 3, "SAME", 1, 1),
    "two strides": ((1, 10, 9, 2), (3, 2, 2, 4), (2, 3), ((1, 2), (0, 1)), 1, 1),
    "dilated": ((1, 9, 8, 2), (3, 3, 2, 3), 1, "SAME", 2, 1),
    "dilated and strided": ((1, 11, 9, 2), (3, 2, 2, 3), 2, ((2, 2), (1, 2)), (2, 1), 1),
    "groups": ((2, 6, 5, 4), (3, 3, 2, 6), 1, "SAME", 1, 2),
    "groups, strided": ((1, 9, 7, 6), (3, 3, 2, 3), (2, 1), "VALID", 1, 3),
    "groups, dilated and strided": ((1, 9, 11, 4), (3, 3, 2, 2), 2, ((2, 2), (2, 2)), (2, 1), 2),
    "depthwise": ((1, 9, 8, 3), (3, 3, 1, 3), 1, "SAME", 1, 3),
    "depthwise, two filters a channel": ((1, 9, 9, 3), (3, 3, 1, 6), 2, ((1, 0), (2, 1)), 1, 3),
    "depthwise, two strides": ((1, 9, 9, 3), (3, 3, 1, 6), (2, 1), "SAME", 1, 3),
    "depthwise, dilated": ((1, 9, 8, 3), (3, 3, 1, 6), 1, "SAME", 2, 3),
    "padding wider than the filter": ((1, 1, 2, 2), (1, 1, 2, 3), (1, 3), ((0, 1), (2, 0)), 1, 1),
    "1×1 with padding": ((2, 4, 5, 3), (1, 1, 3, 2), 1, ((1, 1), (2, 0)), 1, 1),
    "5×5, stride 4": ((1, 13, 14, 2), (5, 5, 2, 3), 4, "VALID", 1, 1),
    "AlexNet's first": ((1, 31, 31, 3), (11, 11, 3, 4), 4, "VALID", 1, 1),
}
TENSORFLOW_HAS_THE_GRADIENT = [name for name, (*_, d, g) in CASES.items() if (d, g) == (1, 1)]  # on the CPU
TYPES = ["float32", "bfloat16"]
by_case = pytest.mark.parametrize("case", CASES)
by_type = pytest.mark.parametrize("dtype", TYPES)


def tensors(case, dtype, low=None):
    """Image, filters, a gradient for the output, and the settings (stride, padding, dilation, groups).

    `low=0.1` makes all values positive, so that no sum cancels to nearly nothing, whose relative error means nothing.
    """
    image, filters, *options = CASES[case] if isinstance(case, str) else case
    x, w = references.random(image, 1, dtype, low), references.random(filters, 2, dtype, low)
    shape = kernels.conv2d(x, w, *options).shape
    return x, w, references.random(shape, 3, dtype, low), options


def forms(case):
    """The algorithms that can compute a case."""
    _, filters, stride, _, *more = CASES[case]
    one_dense_group = more == [1, 1]
    winograd = one_dense_group and filters[:2] == (3, 3) and stride == 1
    fits = {"winograd": winograd, "winograd4": winograd, "space_to_depth": one_dense_group}
    return [name for name in ALGORITHMS if fits.get(name, True)]


def wide(*values):
    return [tf.cast(v, "float64").numpy() for v in values]


def through_the_tape(x, w, dy, options, algorithm="auto"):
    return references.tape_gradient(lambda x, w: kernels.conv2d(x, w, *options, algorithm), [x, w], dy)


def by_hand(x, w, dy, options):
    return (
        kernels.conv2d_input_gradient(dy, w, x.shape[1:3], *options),
        kernels.conv2d_filter_gradient(x, dy, w.shape[:2], *options),
    )


def close_all(actual, expected, kind="gradient"):
    for a, b in zip(actual, expected, strict=True):
        references.close(a, b, kind=kind)


@by_type
@by_case
def test_every_form_equals_the_reference_and_the_others(case, dtype):
    x, w, _, options = tensors(case, dtype)
    results = {form: kernels.conv2d(x, w, *options, form) for form in forms(case)}
    expected = kernels.conv2d_reference(*wide(x, w), *options)
    for y in results.values():
        assert y.dtype == x.dtype
        references.close(y, expected)
        references.close(y, results["nn"])


@by_type
@by_case
def test_gradients_by_hand_are_the_tapes(case, dtype):
    x, w, dy, options = tensors(case, dtype)
    expected = by_hand(x, w, dy, options)
    assert [g.dtype for g in expected] == [x.dtype, w.dtype]
    for form in forms(case):
        close_all(through_the_tape(x, w, dy, options, form), expected)


@pytest.mark.parametrize("case", TENSORFLOW_HAS_THE_GRADIENT)
def test_gradients_by_hand_are_tensorflows(case):
    x, w, dy, options = tensors(case, "float32")
    stride, padding, _, _ = options
    words = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    close_all(
        by_hand(x, w, dy, options),
        references.tape_gradient(lambda x, w: tf.nn.conv2d(x, w, stride, words), [x, w], dy),
    )


@by_case
def test_gradients_are_the_differences(case):
    x, w, dy, options = tensors(case, "float64")
    references.central_difference(
        lambda x, w: tf.reduce_sum(dy * kernels.conv2d(x, w, *options)), by_hand(x, w, dy, options), x, w
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ["groups, dilated and strided", "depthwise, dilated", "odd sizes"])
def test_second_derivative(case, dtype):
    """The gradient of |∂L/∂x|² + |∂L/∂w|²; "nn" has a gradient of its own here, "shifted" is TensorFlow's."""

    def second(x, w, algorithm):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            dx, dw = through_the_tape(x, w, dy, options, algorithm)
            size = tf.reduce_sum(dx**2) + tf.reduce_sum(dw**2)
        return tape.gradient(size, [x, w])

    x, w, dy, options = tensors(case, dtype)
    expected = second(x, w, "shifted")
    assert all(np.any(g) for g in expected)
    close_all(second(x, w, "nn"), expected)
    close_all(tf.function(second, autograph=False)(x, w, "nn"), expected)


@pytest.mark.sample("dilated")
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        ("odd sizes", "float32"),
        ("two strides", "float32"),
        ("depthwise, two filters a channel", "float32"),
        ("groups, dilated and strided", "float32"),
        ("groups", "bfloat16"),
    ],
)
def test_forms_and_gradients_are_the_same_everywhere(case, dtype):
    x, w, dy, options = tensors(case, dtype)
    different = [form for form in forms(case) if form not in ("auto", "winograd4")]  # as "nn" and "winograd"

    def everything(x, w, dy):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, w])
            results = [kernels.conv2d(x, w, *options, form) for form in different]
        return results, [tape.gradient(y, [x, w], output_gradients=dy) for y in results]

    references.same_everywhere(everything, x, w, dy, kind="gradient")


@pytest.mark.parametrize("case", ["odd sizes", "two strides", "groups, dilated and strided", "depthwise"])
def test_unknown_batch(case):
    x, w, dy, options = tensors(case, "float32")
    unknown = [tf.TensorSpec([None, *t.shape[1:]]) for t in (x, dy)]
    for form in forms(case):
        compiled = tf.function(
            lambda x, dy, form=form: (
                kernels.conv2d(x, w, *options, form),
                *through_the_tape(x, w, dy, options, form),
            ),
            input_signature=unknown,
            autograph=False,
        )
        shapes = [shape.as_list() for shape in compiled.get_concrete_function().output_shapes]
        assert shapes == [[None, *dy.shape[1:]], [None, *x.shape[1:]], list(w.shape)]
        y, *gradients = compiled(x, dy)
        references.close(y, kernels.conv2d(x, w, *options))
        close_all(gradients, by_hand(x, w, dy, options))


@pytest.mark.parametrize("case", ["odd sizes", "two strides", "groups, dilated and strided", "depthwise"])
def test_unknown_height_and_width_are_for_nn_alone(case):
    x, w, _, options = tensors(case, "float32")
    unknown = tf.TensorSpec([None, None, None, x.shape[-1]])
    compiled = tf.function(lambda x: kernels.conv2d(x, w, *options, "nn"), input_signature=[unknown], autograph=False)
    for image in (x, tf.concat([x, x], axis=1), tf.concat([x, x, x], axis=2)):
        references.close(compiled(image), kernels.conv2d(image, w, *options))
    for form in set(forms(case)) - {"auto", "nn"}:
        with pytest.raises(ValueError, match='only algorithm "nn" takes images of unknown size'):
            tf.function(lambda x, form=form: kernels.conv2d(x, w, *options, form)).get_concrete_function(unknown)


def test_gradients_by_hand_need_a_known_size():
    _, w, dy, options = tensors("groups", "float32")
    gradient = tf.function(lambda x: through_the_tape(x, w, dy, options), autograph=False)
    with pytest.raises(ValueError, match=r"image size is \(None, None\); expected a known, positive height and width"):
        gradient.get_concrete_function(tf.TensorSpec([None, None, None, 4]))
    transposed = tf.function(kernels.conv2d_transpose, autograph=False)
    with pytest.raises(ValueError, match=r"expected \[B,H',W',Cout\] of known size, or an output_size"):
        transposed.get_concrete_function(tf.TensorSpec([None, None, None, 4]), tf.ones((3, 3, 2, 4)))


def test_a_gradient_that_lost_its_shape():
    """What comes back through tf.py_function has no static shape; the convolution knows which it must have."""
    x, w, dy, options = tensors("groups", "float32")

    @tf.function(autograph=False)
    def gradients(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = tf.py_function(lambda y: y * dy, [kernels.conv2d(x, w, *options)], tf.float32)
        return tape.gradient(y, [x, w])

    close_all(gradients(x, w), by_hand(x, w, dy, options))


def test_variables_are_filters_too():
    x, w, dy, options = tensors("groups", "float32")
    variable = tf.Variable(w)

    def gradient():
        with tf.GradientTape() as tape:
            y = kernels.conv2d(x, variable, *options)
        return tape.gradient(y, variable, output_gradients=dy)

    expected = by_hand(x, w, dy, options)[1]
    for run in (gradient, tf.function(gradient, autograph=False)):
        references.close(run(), expected, kind="gradient")


IMAGE, FILTERS = (1, 6, 7, 4), (3, 3, 4, 2)


@pytest.mark.parametrize(
    ("image", "filters", "options", "message"),
    [
        ((6, 7, 4), FILTERS, {}, r"got x \(6, 7, 4\) and filters \(3, 3, 4, 2\); expected \[B,H,W,C\]"),
        (IMAGE, (3, 3, 4), {}, r"expected \[B,H,W,C\] and \[kh,kw,C/groups,Cout\]"),
        (IMAGE, (3, 3, 5, 2), {}, r"x has 4 channels, but filters \(3, 3, 5, 2\) in 1 group\(s\) read 5"),
        (IMAGE, (3, 3, 4, 2), {"groups": 2}, r"x has 4 channels, but filters .* in 2 group\(s\) read 8"),
        (IMAGE, (3, 3, 1, 4), {"groups": 3}, "groups is 3; expected a divisor of the 4 input channels"),
        (IMAGE, (3, 3, 1, 2), {"groups": 4}, "groups is 4; .* of the 2 output channels"),
        (IMAGE, FILTERS, {"groups": 0}, "groups is 0; expected a divisor"),
        (IMAGE, FILTERS, {"groups": 1.0}, "groups is 1.0; expected a divisor"),
        (IMAGE, FILTERS, {"stride": 0}, "stride is 0; expected a positive int or a pair of them"),
        (IMAGE, FILTERS, {"stride": None}, "stride is None; expected a positive int"),
        (IMAGE, FILTERS, {"dilation": (1, 2, 3)}, r"dilation is \(1, 2, 3\); expected a positive int"),
        (IMAGE, FILTERS, {"padding": "full"}, 'padding is \'full\'; expected "SAME", "VALID" or'),
        (IMAGE, FILTERS, {"padding": ((1, 1), (-1, 1))}, r"padding is \(\(1, 1\), \(-1, 1\)\); expected"),
        (IMAGE, (7, 3, 4, 2), {"padding": "VALID"}, r"\(7, 3\) .* does not fit into an image of \(6, 7\)"),
        (IMAGE, FILTERS, {"padding": "VALID", "dilation": 3}, r"\(dilation \(3, 3\)\) does not fit"),
        (IMAGE, FILTERS, {"algorithm": "fft"}, "algorithm is 'fft'; expected one of auto, nn, im2col, shifted"),
    ],
)
def test_bad_input_says_what_was_wrong(image, filters, options, message):
    with pytest.raises(ValueError, match=message):
        kernels.conv2d(tf.ones(image), tf.ones(filters), **options)


def test_unknown_channels_are_refused():
    with pytest.raises(ValueError, match=r"got x \(None, 6, 7, None\)"):
        tf.function(kernels.conv2d, autograph=False).get_concrete_function(
            tf.TensorSpec([None, 6, 7, None]), tf.ones(FILTERS)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda y, w: kernels.conv2d_input_gradient(y, w, (9, 9)),
            r"\(9, 9\) convolves to \(9, 9, 2\); got \(6, 7, 2\)",
        ),
        (lambda y, w: kernels.conv2d_input_gradient(y, w, (6, 7), groups=3), "groups is 3; expected a divisor"),
        (lambda y, w: kernels.conv2d_filter_gradient(y, y, 3, 2), r"convolves to \(3, 4, 2\); got \(6, 7, 2\)"),
        (lambda y, w: kernels.conv2d_filter_gradient(y, y, 0), "filter_size is 0; expected a positive int"),
        (lambda y, w: kernels.conv2d_filter_gradient(y, y, 3, groups=3), "of the 2 input channels"),
        (lambda y, w: kernels.conv2d_transpose(y[..., :1], w), r"convolves to \(6, 7, 2\); got \(6, 7, 1\)"),
        (lambda y, w: kernels.conv2d_transpose(y[0], w), r"x has shape \(6, 7, 2\); expected \[B,H',W',Cout\]"),
        (lambda y, w: kernels.conv2d_transpose(y, w, 2, output_size=(5, 14)), r"\(5, 14\) convolves to \(3, 7, 2\)"),
        (lambda y, w: kernels.conv2d_transpose(y[:, :1, :1], w, padding=((2, 2), (2, 2))), r"image size is \(-1, -1\)"),
    ],
)
def test_bad_gradients_say_what_was_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(tf.ones((1, 6, 7, 2)), tf.ones(FILTERS))


@st.composite
def convolutions(draw):
    """(image, filters, stride, padding, dilation, groups), small enough for the reference's loops."""
    few = st.integers(1, 3)
    pairs = st.tuples(few, few)
    groups, window, dilation = draw(few), draw(pairs), draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    reach = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    size = [draw(st.integers(r, r + 3)) for r in reach]  # the window fits without padding
    margin = st.tuples(st.integers(0, 2), st.integers(0, 2))
    padding = draw(st.one_of(st.sampled_from(["SAME", "VALID"]), st.tuples(margin, margin)))
    image = draw(st.integers(1, 2)), *size, groups * draw(st.integers(1, 2))
    filters = *window, image[-1] // groups, groups * draw(st.integers(1, 2))
    return image, filters, draw(pairs), padding, dilation, groups


@settings(max_examples=25, deadline=None)
@given(convolutions())
def test_any_convolution(case):
    x, w, dy, options = tensors(case, "float64", low=0.1)
    expected = kernels.conv2d_reference(*wide(x, w), *options)
    gradients = by_hand(x, w, dy, options)
    for form in ("nn", "im2col", "shifted"):
        references.close(kernels.conv2d(x, w, *options, form), expected)
        close_all(through_the_tape(x, w, dy, options, form), gradients)
    for gradient, value in zip(gradients, (x, w), strict=True):  # y is linear in each: ⟨∂L/∂x, x⟩ = ⟨dy, y⟩
        references.close(tf.reduce_sum(gradient * value), np.sum(expected * dy))


def _followed(follower, y, bias):
    """What a network applies after a convolution y [B,H,W,C]."""
    if follower == "batch norm and relu":
        ones, zeros = tf.ones_like(bias), tf.zeros_like(bias)
        return tf.nn.relu(kernels.batch_normalization(y, zeros, ones, ones, bias, 0.0))
    y = tf.nn.bias_add(y, bias)
    return y if follower == "bias" else tf.nn.relu(y)


@pytest.mark.parametrize("dtype", ("float32", "float64", "bfloat16"))
@pytest.mark.parametrize("follower", ("bias", "bias and relu", "batch norm and relu"))
@pytest.mark.parametrize(
    "settings",
    ((1, "SAME", 1, 2), (2, "VALID", 1, 4), ((2, 1), "SAME", 1, 8), (1, ((1, 0), (2, 1)), 2, 4)),
    ids=("groups", "strided", "depthwise with unequal strides", "dilated with padding in pixels"),
)
def test_groups_run_everywhere_with_what_follows(settings, follower, dtype):
    """TensorFlow's graph optimizer fuses these. Where oneDNN is off, its fused convolution takes no groups."""
    stride, padding, dilation, groups = settings
    x, filters = references.random((2, 9, 8, 8), 0, dtype), references.random((3, 3, 8 // groups, 16), 1, dtype)
    bias = references.random((16,), 2, "float32" if dtype == "bfloat16" and "norm" in follower else dtype)
    y = kernels.conv2d_reference(x, filters, stride, padding, dilation, groups) + np.asarray(bias, np.float64)

    def block(x, filters, bias):
        return _followed(follower, kernels.conv2d(x, filters, stride, padding, dilation, groups), bias)

    references.close(
        tf.function(block, autograph=False)(x, filters, bias), y if follower == "bias" else np.maximum(y, 0)
    )
    references.same_everywhere(block, x, filters, bias)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_bias_gradient_is_a_sum_over_pixels(dtype):
    gradient = references.random((3, 17, 19, 4), 1, dtype)
    expected = np.asarray(gradient).astype(np.float64).sum(axis=(0, 1, 2))
    found = kernels.conv2d_bias_gradient(gradient)
    assert found.dtype == dtype
    references.close(found, expected)


def test_bias_gradient_is_the_difference():
    x, w, dy, options = tensors("groups, strided", "float64")
    bias = references.random((w.shape[-1],), 3, "float64")
    references.central_difference(
        lambda bias: tf.reduce_sum(dy * (kernels.conv2d(x, w, *options) + bias)),
        [kernels.conv2d_bias_gradient(dy)],
        bias,
    )
