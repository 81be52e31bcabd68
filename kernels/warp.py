"""Affine resampling: rotate, shift, scale and crop each image of a batch by its own transform.

Source: the sampler of Jaderberg et al. 2015 ("Spatial Transformer Networks", section 3.3), with bilinear interpolation.
Each output pixel looks up where in the input it comes from, so none is missed and none is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kernels.cost import Cost
from kernels.geometry import Pair, Sides, pair
from kernels.precision import wide

# 1. Equation ------------------------------------------------------------------------------------------------
#
#   Pixel (row i, column j) has its center at (x, y) = (j, i). A transform [[a, b, c], [d, e, f]] maps the output pixel
#   at (x, y) to the input position
#
#       x' = a·x + b·y + c
#       y' = d·x + e·y + f
#
#   between four input pixels; with x₀ = ⌊x'⌋, u = x' − x₀, y₀ = ⌊y'⌋, v = y' − y₀:
#
#       out[y, x] = (1 − v)·(1 − u)·in[y₀, x₀]     + (1 − v)·u·in[y₀, x₀ + 1]
#                 +      v ·(1 − u)·in[y₀ + 1, x₀] +      v ·u·in[y₀ + 1, x₀ + 1]
#
#   A pixel outside the image is `fill`.


# 2. NumPy reference -----------------------------------------------------------------------------------------


def affine_resample_reference(
    images: np.ndarray, transforms: np.ndarray, fill: float = 0.0, size: Sides | None = None
) -> np.ndarray:
    """One output value at a time, in float64. Args and Returns as `affine_resample`."""
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


def affine_resample(images: tf.Tensor, transforms: tf.Tensor, fill: float, size: Sides) -> tf.Tensor:
    """[B,H,W,C], [B,2,3] → [B,H',W',C] of `size` (H', W'): four gathers from the image with a border of one pixel."""
    pixels = _bordered(images, fill)  # [B,(H+2)·(W+2),C]
    out = tf.add_n(
        [
            tf.cast(weight, pixels.dtype)[..., None] * tf.gather(pixels, index, batch_dims=1)
            for index, weight in _corners(*_neighbors(transforms, images.shape[1:3], size), images.shape[2])
        ]
    )  # [B,H',W',C]
    return tf.cast(out, images.dtype)


def _bordered(images: tf.Tensor, fill: float) -> tf.Tensor:
    """[B,H,W,C] → [B,(H+2)·(W+2),C], with a border of `fill`."""
    _, height, width, channels = images.shape
    pixels = tf.pad(wide(images), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    return tf.reshape(pixels, (-1, (height + 2) * (width + 2), channels))


Neighbor = tuple[tf.Tensor, tf.Tensor]  # index of the first of two neighbors, counted from the border; u or v


def _neighbors(transforms: tf.Tensor, input_size: Sequence[int], size: Sides) -> tuple[Neighbor, Neighbor]:
    """(row and v, column and u) of each output pixel, [B,H',W'] each."""
    x, y = _positions(transforms, size)
    column = _first_neighbor(x, input_size[1])
    return _first_neighbor(y, input_size[0]), column


def _positions(transforms: tf.Tensor, size: Sides) -> tuple[tf.Tensor, tf.Tensor]:
    """The input position (x', y') of each output pixel, [B,H',W'] each."""
    x, y = _grid(transforms.dtype, size)  # [H',W']
    a, b, c, d, e, f = (transforms[:, r, s, None, None] for r in range(2) for s in range(3))  # [B,1,1]
    return a * x + b * y + c, d * x + e * y + f


def _grid(dtype: tf.DType, size: Sides) -> tuple[tf.Tensor, tf.Tensor]:
    """x and y of each output pixel, [H',W'] each."""
    x, y = tf.meshgrid(*(tf.range(n, dtype=dtype) for n in (size[1], size[0])))
    return x, y


def _first_neighbor(position: tf.Tensor, length: int) -> Neighbor:
    """On one axis; a position farther out than the border reads the border, which is `fill` too."""
    position = tf.clip_by_value(position, -1, length)
    first = tf.minimum(tf.floor(position), length - 1)
    return tf.cast(first, tf.int32) + 1, position - first


def _corners(row: Neighbor, column: Neighbor, width: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """The four pixels around each output pixel: (index into the bordered image, weight), [B,H',W'] each."""
    rows, columns = (((first, 1 - part), (first + 1, part)) for first, part in (row, column))
    return [(i * (width + 2) + j, v * u) for i, v in rows for j, u in columns]


def rotation_translation(angles: tf.Tensor, shifts: tf.Tensor, size: Pair) -> tf.Tensor:
    """Compute the transforms that turn images about their center and then move them.

    Args:
        angles: [B] in radians, counter-clockwise (π/2 is np.rot90).
        shifts: [B,2] in pixels, (right, down).
        size: The image size, an int or (H, W).

    Returns:
        Transforms [B,2,3].
    """
    angles = tf.convert_to_tensor(angles)
    height, width = pair(size, "size")
    x, y = (width - 1) / 2, (height - 1) / 2  # the center
    right, down = tf.unstack(tf.cast(shifts, angles.dtype), axis=-1)
    cos, sin = tf.cos(angles), tf.sin(angles)
    to_x = x - cos * (x + right) + sin * (y + down)
    to_y = y - sin * (x + right) - cos * (y + down)
    return tf.stack([tf.stack([cos, -sin, to_x], axis=-1), tf.stack([sin, cos, to_y], axis=-1)], axis=1)


def crop_resize_transforms(boxes: tf.Tensor, size: Pair) -> tf.Tensor:
    """Compute the transforms that stretch each box of the input over the output.

    Edges meet edges, half a pixel outside the outer centers, as in tf.image.resize. A box much larger than `size` is
    sampled, not averaged, and so aliases.

    Args:
        boxes: [B,4], (top, left, height, width) in pixels, fractions allowed.
        size: The output size, an int or (H', W').

    Returns:
        Transforms [B,2,3].
    """
    boxes = tf.convert_to_tensor(boxes)
    out_height, out_width = pair(size, "size")
    top, left, height, width = tf.unstack(boxes, axis=-1)
    down, across, zero = height / out_height, width / out_width, tf.zeros_like(top)
    to_x, to_y = left + (across - 1) / 2, top + (down - 1) / 2
    return tf.stack([tf.stack([across, zero, to_x], axis=-1), tf.stack([zero, down, to_y], axis=-1)], axis=1)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# The output is linear in the image: each output's gradient g goes to the four pixels that it read, with their weights.
# The weights depend on x' = a·x + b·y + c: ∂out/∂x' = (1 − v)·(in₀₁ − in₀₀) + v·(in₁₁ − in₁₀), and likewise for y'. So
#   da = Σ g·∂out/∂x' · x,   db = Σ g·∂out/∂x' · y,   dc = Σ g·∂out/∂x'    over all output pixels and channels


def affine_resample_image_gradient(gradient: tf.Tensor, transforms: tf.Tensor, input_size: Sides) -> tf.Tensor:
    """Compute the gradient to the images.

    Args:
        gradient: ∂L/∂out [B,H',W',C].
        transforms: [B,2,3].
        input_size: (H, W).

    Returns:
        [B,H,W,C].
    """
    transforms = tf.convert_to_tensor(transforms)
    height, width = input_size
    _, out_height, out_width, channels = gradient.shape
    batch, area = tf.shape(gradient)[0], (height + 2) * (width + 2)
    g = wide(gradient)
    pixels = tf.zeros((batch * area, channels), g.dtype)
    for index, weight in _corners(*_neighbors(transforms, input_size, (out_height, out_width)), width):
        places = index + area * tf.range(batch)[:, None, None]  # [B,H',W'] in the whole batch
        pixels = tf.tensor_scatter_nd_add(pixels, places[..., None], tf.cast(weight, g.dtype)[..., None] * g)
    bordered = tf.reshape(pixels, (batch, height + 2, width + 2, channels))
    return tf.cast(bordered[:, 1:-1, 1:-1], gradient.dtype)  # [B,H,W,C]


def affine_resample_transform_gradient(
    images: tf.Tensor, transforms: tf.Tensor, gradient: tf.Tensor, fill: float, size: Sides
) -> tf.Tensor:
    """∂L/∂out [B,H',W',C] → ∂L/∂transforms [B,2,3], from images [B,H,W,C]."""
    pixels, g, (height, width) = _bordered(images, fill), wide(gradient), images.shape[1:3]
    row, column = _neighbors(transforms, (height, width), size)
    v, u = row[1], column[1]
    products = [tf.reduce_sum(g * tf.gather(pixels, i, batch_dims=1), -1) for i, _ in _corners(row, column, width)]
    p00, p01, p10, p11 = (tf.cast(p, transforms.dtype) for p in products)  # g·in of each tap, [B,H',W']
    derivatives = (1 - v) * (p01 - p00) + v * (p11 - p10), (1 - u) * (p10 - p00) + u * (p11 - p01)
    inside = [(p >= -1) & (p <= n) for p, n in zip(_positions(transforms, size), (width, height), strict=True)]
    dx, dy = (tf.where(where, derivative, 0) for where, derivative in zip(inside, derivatives, strict=True))
    x, y = _grid(transforms.dtype, size)
    rows = [tf.stack([tf.reduce_sum(d * p, (1, 2)) for p in (x, y, tf.ones_like(x))], axis=-1) for d in (dx, dy)]
    return tf.stack(rows, axis=1)  # [B,2,3]


# 5. Cost ----------------------------------------------------------------------------------------------------


def affine_resample_cost(output_shape: Sequence[int]) -> Cost:
    """`output_shape` [B,H',W',C] → the cost: 18 operations per pixel for weights, 4 products and 3 sums per channel.

    Backward to the images: the weights again, and 4 products and 4 sums per channel.
    """
    batch, height, width, channels = output_shape
    pixels = batch * height * width
    return Cost(flops=pixels * (18 + 7 * channels), backward_flops=pixels * (18 + 8 * channels))
