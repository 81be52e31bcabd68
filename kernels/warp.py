"""Affine resampling: rotate, shift, scale and crop each image of a batch by a transform of its own.

The sampler of Jaderberg et al. 2015 (Spatial Transformer Networks, section 3.3), with bilinear interpolation.
Every output pixel asks where in the input it comes from, so none is missed and none is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.activation import widened
from kernels.cost import Cost
from kernels.geometry import Pair, pair

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   Pixel (row i, column j) has its centre at (x, y) = (j, i). A transform [[a, b, c], [d, e, f]] says that
#   the output pixel at (x, y) is the input at
#
#       x' = a·x + b·y + c
#       y' = d·x + e·y + f
#
#   between four input pixels, weighted by nearness; with x₀ = ⌊x'⌋, u = x' − x₀, y₀ = ⌊y'⌋, v = y' − y₀:
#
#       out[y, x] = (1 − v)·(1 − u)·in[y₀, x₀]     + (1 − v)·u·in[y₀, x₀ + 1]
#                 +      v ·(1 − u)·in[y₀ + 1, x₀] +      v ·u·in[y₀ + 1, x₀ + 1]
#
#   A pixel outside the image is `fill`. The sum is linear in the image, so the gradient goes back to the same
#   four pixels with the same four weights.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def affine_resample_reference(
    images: np.ndarray, transforms: np.ndarray, fill: float = 0.0, size: tuple[int, int] | None = None
) -> np.ndarray:
    """[B,H,W,C], [B,2,3] → [B,H',W',C], one output number at a time."""
    images, transforms = np.asarray(images, np.float64), np.asarray(transforms, np.float64)
    batch, height, width, channels = images.shape
    out_height, out_width = size or (height, width)
    y = np.zeros((batch, out_height, out_width, channels))
    for b, i, j, k in np.ndindex(y.shape):
        column, row = transforms[b] @ (j, i, 1.0)
        for m in range(int(np.floor(row)), int(np.floor(row)) + 2):
            for n in range(int(np.floor(column)), int(np.floor(column)) + 2):
                inside = 0 <= m < height and 0 <= n < width
                weight = (1 - abs(row - m)) * (1 - abs(column - n))
                y[b, i, j, k] += weight * (images[b, m, n, k] if inside else fill)
    return y


# 3. Tensor forms --------------------------------------------------------------------------------------------


def _axis_taps(position: tf.Tensor, length: int) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
    """Two neighbours on one axis, (index, weight) each; indices count from the border of one pixel.

    What lies farther out than the border reads the border, which is `fill` too.
    """
    position = tf.clip_by_value(position, -1, length)
    first = tf.minimum(tf.floor(position), length - 1)
    index, weight = tf.cast(first, tf.int32) + 1, position - first
    return (index, 1 - weight), (index + 1, weight)


def _taps(
    transforms: tf.Tensor, input_size: tuple[int, int], size: tuple[int, int]
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """The four neighbours of every output pixel: (index into the bordered image, weight), [B,H',W'] each."""
    height, width = input_size
    x, y = tf.meshgrid(*(tf.range(n, dtype=transforms.dtype) for n in (size[1], size[0])))  # [H',W']
    a, b, c, d, e, f = (transforms[:, r, s, None, None] for r in range(2) for s in range(3))  # [B,1,1]
    columns = _axis_taps(a * x + b * y + c, width)  # [B,H',W']
    rows = _axis_taps(d * x + e * y + f, height)
    return [(row * (width + 2) + column, v * u) for row, v in rows for column, u in columns]


def affine_resample(
    images: tf.Tensor,
    transforms: tf.Tensor,
    fill: float = 0.0,
    size: Pair | None = None,
    algorithm: str = "auto",
) -> tf.Tensor:
    """Bilinear samples of [B,H,W,C] where [B,2,3] says, as [B,*size,C] (`size` default: that of the images).

    `transforms` map the centre (x, y) of an output pixel, (0, 0) for the first, to input pixel coordinates;
    keep them float32 or wider. Outside the image lies `fill`. Differentiable in images and in transforms.
    Forms: "gather" writes it operation by operation; "compiled" has it and its gradients done by XLA, in half the time,
    and is taken within a graph that knows the batch: of an unknown one XLA would compile every size that comes.
    Raises ValueError unless the shapes are [B,H,W,C], all but B known, and [B,2,3].
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
    input_size = tuple(images.shape[1:3])
    sampled = fill, pair(size or input_size, "size")
    unfit = tf.executing_eagerly() or images.shape[0] is None
    if algorithm == "gather" or (algorithm == "auto" and unfit):
        return _resample(images, transforms, *sampled)

    @tf.custom_gradient
    def resample(images, transforms):
        def backward(gradient):  # one by one, so that a graph leaves out what nobody asks for
            to_images = _compiled_image_gradient(gradient, transforms, input_size)
            return to_images, _compiled_transform_gradient(images, transforms, gradient, *sampled)

        return _compiled_resample(images, transforms, *sampled), backward

    return resample(images, transforms)


def _resample(images: tf.Tensor, transforms: tf.Tensor, fill: float, size: tuple[int, int]) -> tf.Tensor:
    _, height, width, channels = images.shape
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    pixels = tf.pad(widened(images), border, constant_values=fill)  # [B,H+2,W+2,C]
    pixels = tf.reshape(pixels, (-1, (height + 2) * (width + 2), channels))
    out = tf.add_n(
        [
            tf.cast(weight, pixels.dtype)[..., None] * tf.gather(pixels, index, batch_dims=1)
            for index, weight in _taps(transforms, (height, width), size)
        ]
    )  # [B,H',W',C]
    return tf.cast(out, images.dtype)


def rotation_translation(angles: tf.Tensor, shifts: tf.Tensor, size: Pair) -> tf.Tensor:
    """Transforms [B,2,3] that turn images of `size` about their centre and then move them.

    `angles` [B] in radians, counter-clockwise (π/2 is np.rot90); `shifts` [B,2] in pixels, (right, down).
    """
    angles = tf.convert_to_tensor(angles)
    height, width = pair(size, "size")
    x, y = (width - 1) / 2, (height - 1) / 2  # the centre, from where and to where the image turns
    right, down = tf.unstack(tf.cast(shifts, angles.dtype), axis=-1)
    cos, sin = tf.cos(angles), tf.sin(angles)
    to_x = x - cos * (x + right) + sin * (y + down)
    to_y = y - sin * (x + right) - cos * (y + down)
    return tf.stack([tf.stack([cos, -sin, to_x], axis=-1), tf.stack([sin, cos, to_y], axis=-1)], axis=1)


def crop_resize_transforms(boxes: tf.Tensor, size: Pair) -> tf.Tensor:
    """Transforms [B,2,3] that stretch each box of the input over an output of `size`.

    `boxes` [B,4] are (top, left, height, width) in pixels, fractions allowed, in the order of
    tf.image.crop_to_bounding_box. Edges meet edges, half a pixel from the outer centres, as in
    tf.image.resize. A box much larger than `size` is sampled, not averaged, and so aliases.
    """
    boxes = tf.convert_to_tensor(boxes)
    out_height, out_width = pair(size, "size")
    top, left, height, width = tf.unstack(boxes, axis=-1)
    down, across, zero = height / out_height, width / out_width, tf.zeros_like(top)
    to_x, to_y = left + (across - 1) / 2, top + (down - 1) / 2
    return tf.stack([tf.stack([across, zero, to_x], axis=-1), tf.stack([zero, down, to_y], axis=-1)], axis=1)


# 4. Gradient by hand ----------------------------------------------------------------------------------------


def affine_resample_image_gradient(
    gradient: tf.Tensor, transforms: tf.Tensor, input_size: tuple[int, int]
) -> tf.Tensor:
    """[B,H',W',C] → [B,*input_size,C], to the images: each output pays back the pixels it read."""
    transforms = tf.convert_to_tensor(transforms)
    height, width = input_size
    _, out_height, out_width, channels = gradient.shape
    batch, area = tf.shape(gradient)[0], (height + 2) * (width + 2)
    g = widened(gradient)
    pixels = tf.zeros((batch * area, channels), g.dtype)
    for index, weight in _taps(transforms, (height, width), (out_height, out_width)):
        places = index + area * tf.range(batch)[:, None, None]  # [B,H',W'] in the whole batch
        pixels = tf.tensor_scatter_nd_add(pixels, places[..., None], tf.cast(weight, g.dtype)[..., None] * g)
    bordered = tf.reshape(pixels, (batch, height + 2, width + 2, channels))
    return tf.cast(bordered[:, 1:-1, 1:-1], gradient.dtype)  # the border is nobody's


def _transform_gradient(images, transforms, gradient, fill: float, size: tuple[int, int]) -> tf.Tensor:
    """[B,2,3], to the transforms, as the tape has it: by the weights of the four pixels."""
    with tf.GradientTape() as tape:
        tape.watch(transforms)
        out = _resample(images, transforms, fill, size)
    return tape.gradient(out, transforms, output_gradients=gradient)


_compiled_resample = tf.function(_resample, jit_compile=True, autograph=False)
_compiled_image_gradient = tf.function(affine_resample_image_gradient, jit_compile=True, autograph=False)
_compiled_transform_gradient = tf.function(_transform_gradient, jit_compile=True, autograph=False)


# 5. Cost ----------------------------------------------------------------------------------------------------


def affine_resample_cost(output_shape: Sequence[int]) -> Cost:
    """Of [B,H',W',C]: 18 operations a pixel find four weights, then each channel takes 4 products and 3 sums.

    Backward to the images the weights are found again, and each channel takes 4 products and 4 sums.
    """
    batch, height, width, channels = output_shape
    pixels = batch * height * width
    return Cost(flops=pixels * (18 + 7 * channels), backward_flops=pixels * (18 + 8 * channels))
