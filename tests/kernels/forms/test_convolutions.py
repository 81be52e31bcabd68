"""The forms of the convolution: each computes what it accepts, and refuses the rest with its reason."""

from __future__ import annotations

import pytest
import tensorflow as tf

import kernels
from kernels.forms.convolutions import FILTER_GRADIENT, FORMS, FORWARD, GROUPED_JOBS, INPUT_GRADIENT, JOBS
from kernels.geometry import Convolution
from tests import references

SHAPES = [  # image, filters, descriptor
    ((2, 7, 8, 4), (3, 3, 4, 6), Convolution()),
    ((2, 7, 8, 4), (3, 3, 4, 6), Convolution((2, 1), "VALID")),
    ((2, 7, 8, 4), (3, 2, 4, 6), Convolution((1, 1), ((1, 0), (2, 1)), (2, 1))),
    ((2, 7, 8, 4), (3, 3, 2, 6), Convolution((2, 2), "SAME", (1, 1), 2)),
]


@pytest.mark.parametrize(("image", "filter_shape", "convolution"), SHAPES)
@pytest.mark.parametrize("name", FORMS)
def test_a_form_computes_what_it_accepts(name, image, filter_shape, convolution):
    form, size, kernel = FORMS[name], image[1:3], filter_shape[:2]
    settings = convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    x, w = references.random(image, 1), references.random(filter_shape, 2)
    y = kernels.conv2d(x, w, *settings)
    dy = references.random(y.shape, 3)
    expected = {
        FORWARD: (form.forward, (x, w), y),
        INPUT_GRADIENT: (form.input_gradient, (dy, w, size), kernels.conv2d_input_gradient(dy, w, size, *settings)),
        FILTER_GRADIENT: (
            form.filter_gradient,
            (x, dy, kernel),
            kernels.conv2d_filter_gradient(x, dy, kernel, *settings),
        ),
    }
    for job, (function, arguments, result) in expected.items():
        if name in JOBS[job] and form.accepts(job, filter_shape, convolution) is None:
            references.close(function(*arguments, convolution), result, "gradient")


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("name", FORMS)
def test_what_a_form_refuses_is_the_error_of_the_public_kernel(name, job):
    """For three descriptors: the reason that `accepts` returns is the message that a user reads."""
    if name not in JOBS[job]:
        with pytest.raises(NotImplementedError):
            {FORWARD: FORMS[name].forward, INPUT_GRADIENT: FORMS[name].input_gradient}.get(
                job, FORMS[name].filter_gradient
            )()
        return
    x = tf.ones((1, 9, 9, 4))
    for convolution in (Convolution((2, 2)), Convolution(dilation=(2, 2)), Convolution(groups=2)):
        filters = tf.ones((3, 3, 4 // convolution.groups, 2))
        reason = FORMS[name].accepts(job, filters.shape, convolution)
        settings = convolution.stride, convolution.padding, convolution.dilation, convolution.groups
        dy = tf.ones((1, *convolution.output_size((9, 9), (3, 3)), 2))
        call = {
            FORWARD: lambda f=filters, s=settings: kernels.conv2d(x, f, *s, name),
            INPUT_GRADIENT: lambda f=filters, s=settings, g=dy: kernels.conv2d_input_gradient(g, f, (9, 9), *s, name),
            FILTER_GRADIENT: lambda s=settings, g=dy: kernels.conv2d_filter_gradient(x, g, 3, *s, name),
        }[job]
        if reason is None:
            call()
        else:
            with pytest.raises(ValueError) as error:
                call()
            assert str(error.value) == reason


def test_the_default_of_each_job_accepts_every_group_of_channels():
    for job, (default, *_) in GROUPED_JOBS.items():
        assert FORMS[default].accepts(job, (3, 3, 2, 6), Convolution(groups=2)) is None
