"""Exercises 11 and 12: the projection of PGD, and the ReLU of a deconvnet."""

from __future__ import annotations

import numpy as np

from kernels.activation import relu_gradient_reference
from rawcnn.explain.exercises.exercise import Exercise, integers, normal


def project(x, image, epsilon):
    """Move an image into the L∞ ball around another one, and into the range of pixels.

    Args:
        x: [H,W,3].
        image: The center of the ball, [H,W,3] in [0,1].
        epsilon: ε, the radius.

    Returns:
        The nearest image to x [H,W,3] whose pixels are in [0,1] and differ from those of `image` by at most ε.
    """
    return np.clip(x, np.maximum(image - epsilon, 0), np.minimum(image + epsilon, 1))


def relu_backward(x, gradient):
    """Compute the three backward passes of a ReLU.

    Args:
        x: The ReLU's input, any shape.
        gradient: g, what comes back from above, shaped like x.

    Returns:
        Three arrays shaped like x: the gradient; the deconvnet's; that of guided backpropagation.
    """
    open_ = x > 0
    raises = np.maximum(gradient, 0)
    return gradient * open_, raises, raises * open_


# Inputs and right values -----------------------------------------------------------------------------------------


def _nearest(x, image, epsilon):
    """Pixel by pixel, by cases."""
    result = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        low, high = max(image[place] - epsilon, 0.0), min(image[place] + epsilon, 1.0)
        result[place] = low if x[place] < low else high if x[place] > high else x[place]
    return result


def _backward(x, gradient):
    return tuple(relu_gradient_reference(x, gradient, rule) for rule in ("relu", "deconvnet", "guided"))


PIXELS = np.array([[[0.0, 0.5, 1.0], [0.1, 0.9, 0.5]]])

PROJECTION = Exercise(
    title="the projection of PGD",
    task="""
Each step of PGD (Madry et al. 2018) may lead out of the ball of radius ε around the image, and out of [0,1]. In L∞ the
nearest permitted image is found pixel by pixel. Both limits hold at once.
""",
    solution=project,
    expected=_nearest,
    cases={
        "six pixels": dict(x=PIXELS + 0.3 * np.array([-1, 1, 1]), image=PIXELS, epsilon=0.1),
        "random images": dict(x=normal(4, 4, 3), image=np.abs(normal(4, 4, 3, seed=1)) % 1, epsilon=8 / 255),
        "ε = 0 leaves no choice": dict(x=normal(2, 2, 3), image=np.abs(normal(2, 2, 3, seed=1)) % 1, epsilon=0.0),
    },
    hints=(
        "Each pixel has a lowest and a highest permitted value.",
        "The lowest is the larger of image − ε and 0.",
    ),
    source="rawcnn/attacks/ball.py",
    look=lambda index, x, image, epsilon: {"x, image, ε": [x[index], image[index], epsilon]},
)

DECONVNET = Exercise(
    title="the deconvnet's ReLU",
    task="""
The forward pass is max(x, 0). Three ways back (Springenberg et al. 2015, figure 1):

    gradient                   g where x > 0, else 0
    deconvnet                  max(g, 0), whatever x is (Zeiler and Fergus 2014, section 2.1)
    guided backpropagation     both at once
""",
    solution=relu_backward,
    expected=_backward,
    cases={
        "all four signs": dict(x=np.array([1.0, 1.0, -1.0, -1.0]), gradient=np.array([2.0, -2.0, 2.0, -2.0])),
        "zeros": dict(x=integers(2, 3, 3, 2, low=-1, high=2), gradient=integers(2, 3, 3, 2, seed=1)),
    },
    hints=("x > 0 is an array of ones and zeros, once it is multiplied.", "The deconvnet does not look at x at all."),
    source="kernels/activation.py",
    look=lambda index, x, gradient: {"x, g": [x[index], gradient[index]]},
)
