"""The public affine resampling: checks, and the choice between single operations and an island of XLA."""

from __future__ import annotations

import tensorflow as tf

from kernels import warp as textbook
from kernels.forms.differentiable import with_gradient
from kernels.forms.islands import (
    compiled_resample,
    compiled_resample_image_gradient,
    compiled_resample_transform_gradient,
)
from kernels.geometry import Pair, pair


def affine_resample(
    images: tf.Tensor,
    transforms: tf.Tensor,
    fill: float = 0.0,
    size: Pair | None = None,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Resample each image by its own transform, with bilinear interpolation (Jaderberg et al. 2015, section 3.3).

    Args:
        images: [B,H,W,C].
        transforms: [B,2,3]; each maps the center (x, y) of an output pixel, (0, 0) for the first, to input pixel
            coordinates. Keep them float32 or wider.
        fill: The value of pixels outside the image.
        size: The output size, an int or (H', W'); the default is that of the images.
        algorithm: "gather" (operation by operation), "compiled" (by XLA with its gradients, in half the time), or
            "auto": "compiled" within a graph of known batch size, because XLA compiles each batch size again.

    Returns:
        [B,H',W',C], differentiable in images and transforms.

    Raises:
        ValueError: Unless the shapes are [B,H,W,C], with all but B known, and [B,2,3].
    """
    images, transforms = tf.convert_to_tensor(images), tf.convert_to_tensor(transforms)
    known = images.shape.rank == 4 and None not in images.shape[1:]
    if not known or not transforms.shape.is_compatible_with((images.shape[0], 2, 3)):
        raise ValueError(
            f"cannot resample images {images.shape} by transforms {transforms.shape}; expected [B,H,W,C] "
            "with height, width and channels known, and a transform for each image, [B,2,3]"
        )
    if algorithm not in ("auto", "gather", "compiled"):
        raise ValueError(f'algorithm is {algorithm!r}; expected "auto", "gather" or "compiled"')
    input_size = images.shape[1], images.shape[2]
    settings = fill, pair(input_size if size is None else size, "size")
    unfit = tf.executing_eagerly() or images.shape[0] is None
    if algorithm == "gather" or (algorithm == "auto" and unfit):
        return textbook.affine_resample(images, transforms, *settings)

    def backward(inputs, y, gradient):  # in two functions, so that a graph leaves out a gradient that is not used
        images, transforms = inputs
        to_images = compiled_resample_image_gradient(gradient, transforms, input_size)
        return to_images, compiled_resample_transform_gradient(images, transforms, gradient, *settings)

    return with_gradient(lambda images, transforms: compiled_resample(images, transforms, *settings), backward)(
        images, transforms
    )
