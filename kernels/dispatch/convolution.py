"""The public convolution: checks, the choice of a form for the output and for each gradient, and the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from kernels.dispatch.selection import measured, pixels_of, shape_name
from kernels.forms.convolutions import (
    FILTER_GRADIENT,
    FORMS,
    FORWARD,
    GROUPED_JOBS,
    INPUT_GRADIENT,
    JOBS,
    ConvolutionForm,
)
from kernels.forms.differentiable import with_gradient
from kernels.forms.finite import must_check, where_finite
from kernels.forms.nn import fitting_gradient, nn_conv2d
from kernels.geometry import LARGEST, Convolution, Padding, Pair, Sides, is_integer, kernel_size, pair, shown
from kernels.transposed import transposed_size

ALGORITHMS = ("auto", *JOBS[FORWARD])


def conv2d(
    x: tf.Tensor,
    filters: tf.Tensor | np.ndarray,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Convolve a batch of images with filters.

    Args:
        x: Images [B,H,W,C].
        filters: [kh,kw,C/groups,Cout] of the type of x.
        stride: Pixels between two windows, an int or (vertical, horizontal).
        padding: "SAME", "VALID" or ((top, bottom), (left, right)) in pixels.
        dilation: Pixels between two taps, an int or a pair.
        groups: Number of groups; each reads C/groups input channels.
        algorithm: "nn" (`tf.nn.conv2d`), "im2col" (patches, then one matmul), "shifted" (one matmul per tap),
            "winograd" (F(2×2,3×3)), "winograd4" (F(4×4,3×3)), "space_to_depth" (strides become channels), "split" (one
            convolution per group), "dense" (all groups as one, with zeros between them), or "auto": for the output and
            for each gradient the form that was the fastest on this shape. All agree up to rounding for finite values.
            A NaN or an infinity reaches more outputs than read it with "winograd", "winograd4" (the other outputs of
            its tiles), "space_to_depth" and "dense" (windows and groups nearby); "auto" then runs another form.

    Returns:
        [B,H',W',Cout].

    Raises:
        ValueError: For shapes or settings that do not fit together.
    """
    convolution = Convolution(pair(stride, "stride"), padding, pair(dilation, "dilation"), groups)
    _check(x, filters, groups)
    _check_reach(kernel_size(filters), convolution.dilation)
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}; expected one of {', '.join(ALGORITHMS)}")
    if None not in x.shape[1:3]:
        convolution.output_size(x.shape[1:3], kernel_size(filters))  # raises if the window does not fit
    elif algorithm not in ("auto", "nn"):
        raise ValueError(f'x has shape {x.shape}; only algorithm "nn" takes images of unknown size')
    if algorithm == "auto":
        return _fastest_conv2d(x, filters, convolution)
    return _form(algorithm, FORWARD, filters.shape, convolution).forward(x, filters, convolution)


def _check(x: tf.Tensor, filters: tf.Tensor, groups: int) -> None:
    if len(x.shape) != 4 or len(filters.shape) != 4 or x.shape[-1] is None:
        raise ValueError(f"got x {x.shape} and filters {filters.shape}; expected [B,H,W,C] and [kh,kw,C/groups,Cout]")
    if 0 in filters.shape:
        raise ValueError(f"filters have shape {filters.shape}; expected [kh,kw,C/groups,Cout], each 1 or more")
    _check_groups(groups, x.shape[-1], filters.shape[-1])
    if x.shape[-1] != filters.shape[2] * groups:
        raise ValueError(
            f"x has {x.shape[-1]} channels, but filters {tuple(filters.shape)} in {groups} group(s) "
            f"read {filters.shape[2] * groups}; expected filters [kh,kw,C/groups,Cout]"
        )


def _check_reach(kernel: Sides, dilation: Sides) -> None:
    """ValueError for taps so far apart that TensorFlow's kernels, which end the process, cannot count the pixels."""
    if max((taps - 1) * gap + 1 for taps, gap in zip(kernel, dilation, strict=True)) > LARGEST:
        raise ValueError(
            f"dilation is {dilation} for filters of {kernel}; expected a window of at most {LARGEST:,} pixels"
        )


def _check_groups(groups: int, channels: int, out_channels: int) -> None:
    if not is_integer(groups) or groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(
            f"groups is {shown(groups)}; expected a divisor of the {channels} input channels and of the "
            f"{out_channels} output channels"
        )


def _form(name: str, job: str, filter_shape: Sequence[int], convolution: Convolution) -> ConvolutionForm:
    """The form called `name`. ValueError if it cannot do this job."""
    if name not in JOBS[job]:
        raise ValueError(f"algorithm is {name!r}; expected one of {', '.join(JOBS[job])}")
    if reason := FORMS[name].accepts(job, filter_shape, convolution):
        raise ValueError(reason)
    return FORMS[name]


def _fastest_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution) -> tf.Tensor:
    """The fastest forms by measurement. If all three are TensorFlow's, TensorFlow differentiates its own kernel."""
    size, kernel, groups = x.shape[1:3], kernel_size(filters), convolution.groups
    if convolution.dilation != (1, 1) or groups == x.shape[-1] > 1 or None in size:
        return nn_conv2d(x, filters, convolution)
    pixels = pixels_of(x, convolution.output_size(size, kernel))
    names = {job: _fastest(job, x.dtype, pixels, filters.shape, convolution) for job in JOBS}
    if set(names.values()) == {"nn"}:
        return nn_conv2d(x, filters, convolution)
    forms = {job: _form(name, job, filters.shape, convolution) for job, name in names.items()}
    check = must_check()  # read now, because gradients are computed later, outside of the caller's context

    def forward(x: tf.Tensor, filters: tf.Tensor) -> tf.Tensor:
        if check:
            x, filters = tf.stop_gradient(x), tf.stop_gradient(filters)  # else a tape would differentiate both branches
        return _compute(forms[FORWARD], FORWARD, convolution, (x,) if check else (), x, filters)

    def backward(inputs: Sequence[tf.Tensor], y: tf.Tensor, gradient: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, filters = inputs
        dy = tf.ensure_shape(gradient, y.shape)  # a graph may have lost it
        return (
            _compute(forms[INPUT_GRADIENT], INPUT_GRADIENT, convolution, (dy,) if check else (), dy, filters, size),
            _compute(forms[FILTER_GRADIENT], FILTER_GRADIENT, convolution, (x, dy) if check else (), x, dy, kernel),
        )

    return with_gradient(forward, backward)(x, filters)


def _compute(
    form: ConvolutionForm, job: str, convolution: Convolution, maps: tuple[tf.Tensor, ...], *operands
) -> tf.Tensor:
    """Run a form on its operands; if it spreads non-finite values and the `maps` have some, run one that does not."""
    function = partial(form.function(job), *operands, convolution)
    if not form.spreads or not maps:
        return function()
    exact = FORMS["split" if convolution.groups > 1 else "nn"]
    return where_finite(maps, function, partial(exact.function(job), *operands, convolution))


def _fastest(
    job: str, dtype: tf.DType, pixels: int | None, filter_shape: Sequence[int], convolution: Convolution
) -> str:
    """The name of the fastest form of a job, without dilation."""
    known = GROUPED_JOBS if convolution.groups > 1 else JOBS
    shape = shape_name(filter_shape, convolution.stride, convolution.groups)
    return measured(job, dtype, shape, pixels, known[job])


def conv2d_input_gradient(
    gradient: tf.Tensor,
    filters: tf.Tensor,
    input_size: Sequence[int],
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "flipped",
) -> tf.Tensor:
    """Compute the gradient of a convolution to its input. It is differentiable again.

    Args:
        gradient: ∂L/∂y [B,H',W',Cout].
        filters: [kh,kw,C/groups,Cout].
        input_size: (H, W).
        stride, padding, dilation, groups: As in `conv2d`.
        algorithm: "flipped" (a convolution with the flipped filter), "winograd" and "winograd4" (the same in that
            form), "shifted" (one matmul per tap, put back where the tap read), "nn" (TensorFlow's) and
            "space_to_depth", both for one group without dilation, "split" (one gradient per group), "dense" (all
            groups as one), or "auto", the one that was the fastest.

    Returns:
        ∂L/∂x [B,H,W,C].

    Raises:
        ValueError: For shapes or settings that do not fit together, and for an unknown size.
    """
    convolution = Convolution(pair(stride, "stride"), padding, pair(dilation, "dilation"), groups)
    *_, depth, out = filters.shape
    _check_groups(groups, depth * groups, out)
    gradient = fitting_gradient(gradient, filters.shape, input_size, convolution)
    if algorithm == "auto" and convolution.dilation == (1, 1):
        algorithm = _fastest(INPUT_GRADIENT, gradient.dtype, pixels_of(gradient), filters.shape, convolution)
        form = _form(algorithm, INPUT_GRADIENT, filters.shape, convolution)
        return _compute(form, INPUT_GRADIENT, convolution, (gradient,), gradient, filters, input_size)
    form = _form("flipped" if algorithm == "auto" else algorithm, INPUT_GRADIENT, filters.shape, convolution)
    return form.input_gradient(gradient, filters, input_size, convolution)


def conv2d_filter_gradient(
    x: tf.Tensor,
    gradient: tf.Tensor,
    filter_size: Pair,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    algorithm: str = "shifted",
) -> tf.Tensor:
    """Compute the gradient of a convolution to its filters. It is differentiable again.

    Args:
        x: [B,H,W,C].
        gradient: ∂L/∂y [B,H',W',Cout].
        filter_size: (kh, kw), or an int.
        stride, padding, dilation, groups: As in `conv2d`.
        algorithm: "shifted" (one matmul per tap), "winograd", "winograd4", "nn" (TensorFlow's) and "space_to_depth",
            both for one group without dilation, "split" (one gradient per group), "dense" (all groups as one).

    Returns:
        ∂L/∂w [kh,kw,C/groups,Cout].

    Raises:
        ValueError: For shapes or settings that do not fit together, and for an unknown size.
    """
    kernel = pair(filter_size, "filter_size")
    convolution = Convolution(pair(stride, "stride"), padding, pair(dilation, "dilation"), groups)
    _check_groups(groups, x.shape[-1], gradient.shape[-1])
    filter_shape = (*kernel, x.shape[-1] // groups, gradient.shape[-1])
    gradient = fitting_gradient(gradient, filter_shape, x.shape[1:3], convolution)
    form = _form(algorithm, FILTER_GRADIENT, filter_shape, convolution)
    return form.filter_gradient(x, gradient, kernel, convolution)


def conv2d_transpose(
    x: tf.Tensor,
    filters: tf.Tensor,
    stride: Pair = 1,
    padding: Padding = "SAME",
    dilation: Pair = 1,
    groups: int = 1,
    *,
    output_size: tuple[int, int] | None = None,
) -> tf.Tensor:
    """Compute the transposed convolution: the adjoint of `conv2d` with the same filters.

    Args:
        x: [B,H',W',Cout].
        filters: [kh,kw,C/groups,Cout], as for the convolution.
        stride, padding, dilation, groups: As in `conv2d`.
        output_size: (H, W). With a stride, several sizes convolve to one (H', W'); the default is the largest for
            "SAME" (H'·stride) and the smallest otherwise.

    Returns:
        [B,H,W,C].

    Raises:
        ValueError: As `conv2d_input_gradient`.
    """
    if output_size is None:
        convolution = Convolution(pair(stride, "stride"), padding, pair(dilation, "dilation"), groups)
        if len(x.shape) != 4 or None in x.shape[1:3]:
            raise ValueError(f"x has shape {x.shape}; expected [B,H',W',Cout] of known size, or an output_size (H, W)")
        output_size = transposed_size(x.shape[1:3], kernel_size(filters), convolution)
    return conv2d_input_gradient(x, filters, output_size, stride, padding, dilation, groups)
