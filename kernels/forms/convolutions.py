"""The forms of the convolution by name: what each computes, and the shapes that each accepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from kernels.convolution import conv2d_by_taps, conv2d_filter_gradient_by_taps, conv2d_input_gradient_by_taps
from kernels.forms.grouped import (
    dense_conv2d,
    dense_filter_gradient,
    dense_input_gradient,
    split_conv2d,
    split_filter_gradient,
    split_input_gradient,
)
from kernels.forms.im2col import im2col_conv2d
from kernels.forms.nn import flipped_input_gradient, nn_conv2d, nn_filter_gradient, nn_input_gradient
from kernels.forms.space_to_depth import (
    space_to_depth_conv2d,
    space_to_depth_filter_gradient,
    space_to_depth_input_gradient,
)
from kernels.forms.winograd import (
    F2,
    F4,
    Transforms,
    winograd_conv2d,
    winograd_filter_gradient,
    winograd_input_gradient,
)
from kernels.geometry import Convolution

FORWARD, INPUT_GRADIENT, FILTER_GRADIENT = "conv2d", "conv2d input gradient", "conv2d filter gradient"  # jobs


def _accepts_all(job: str, filter_shape: Sequence[int], convolution: Convolution) -> str | None:
    return None


def _missing(*arguments: object) -> tf.Tensor:
    raise NotImplementedError("this form does not compute this job")


@dataclass(frozen=True)
class ConvolutionForm:
    """One way to compute a convolution and its gradients, or one of them.

    Attributes:
        forward: (x, filters, convolution) → y.
        input_gradient: (∂L/∂y, filters, (H, W), convolution) → ∂L/∂x.
        filter_gradient: (x, ∂L/∂y, (kh, kw), convolution) → ∂L/∂w.
        accepts: (job, filter shape, convolution) → the reason why the form cannot do it, or None if it can.
        spreads: Whether a NaN or an infinity also reaches outputs that do not read it.
    """

    forward: Callable[..., tf.Tensor] = _missing
    input_gradient: Callable[..., tf.Tensor] = _missing
    filter_gradient: Callable[..., tf.Tensor] = _missing
    accepts: Callable[[str, Sequence[int], Convolution], str | None] = _accepts_all
    spreads: bool = False

    def function(self, job: str) -> Callable[..., tf.Tensor]:
        """The function that computes a job."""
        functions = {FORWARD: self.forward, INPUT_GRADIENT: self.input_gradient, FILTER_GRADIENT: self.filter_gradient}
        return functions[job]


def _nn_accepts(job: str, filter_shape: Sequence[int], convolution: Convolution) -> str | None:
    return None if job == FORWARD else _needs_plain("nn", convolution)


def _space_to_depth_accepts(job: str, filter_shape: Sequence[int], convolution: Convolution) -> str | None:
    return _needs_plain("space_to_depth", convolution)


def _needs_plain(name: str, convolution: Convolution) -> str | None:
    return None if convolution.plain else f'algorithm "{name}" is for one group without dilation'


def _winograd_accepts(job: str, filter_shape: Sequence[int], convolution: Convolution) -> str | None:
    if tuple(filter_shape[:2]) == (3, 3) and convolution.stride == (1, 1) and convolution.plain:
        return None
    return (
        f"Winograd's algorithm needs 3×3 filters, stride 1, no dilation and one group; got filters "
        f"{tuple(filter_shape)}, stride {convolution.stride}, dilation {convolution.dilation}, "
        f'groups {convolution.groups}: use algorithm="nn"'
    )


def _winograd(transforms: Transforms) -> ConvolutionForm:
    forward, *gradients = (
        partial(function, transforms=transforms)
        for function in (winograd_conv2d, winograd_input_gradient, winograd_filter_gradient)
    )
    return ConvolutionForm(forward, gradients[0], gradients[1], _winograd_accepts, spreads=True)


FORMS: dict[str, ConvolutionForm] = {
    "nn": ConvolutionForm(nn_conv2d, nn_input_gradient, nn_filter_gradient, _nn_accepts),
    "flipped": ConvolutionForm(input_gradient=flipped_input_gradient),
    "im2col": ConvolutionForm(im2col_conv2d),
    "shifted": ConvolutionForm(conv2d_by_taps, conv2d_input_gradient_by_taps, conv2d_filter_gradient_by_taps),
    "winograd": _winograd(F2),
    "winograd4": _winograd(F4),
    "space_to_depth": ConvolutionForm(
        space_to_depth_conv2d,
        space_to_depth_input_gradient,
        space_to_depth_filter_gradient,
        _space_to_depth_accepts,
        spreads=True,
    ),
    "split": ConvolutionForm(split_conv2d, split_input_gradient, split_filter_gradient),
    "dense": ConvolutionForm(dense_conv2d, dense_input_gradient, dense_filter_gradient, spreads=True),
}
# The forms among which "auto" chooses; the first is the default. With several groups, TensorFlow lacks gradients.
JOBS: dict[str, tuple[str, ...]] = {
    FORWARD: tuple(name for name, form in FORMS.items() if form.forward is not _missing),
    INPUT_GRADIENT: tuple(name for name, form in FORMS.items() if form.input_gradient is not _missing),
    FILTER_GRADIENT: tuple(name for name, form in FORMS.items() if form.filter_gradient is not _missing),
}
GROUPED_JOBS: dict[str, tuple[str, ...]] = {
    FORWARD: ("nn", "split", "dense"),
    INPUT_GRADIENT: ("flipped", "split", "dense"),
    FILTER_GRADIENT: ("shifted", "split", "dense"),
}
