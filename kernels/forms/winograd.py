"""Winograd's minimal filtering: a 3×3 convolution with 2.25 or 4 times fewer multiplications in its main step.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), after Winograd (1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

import numpy as np
import tensorflow as tf

from kernels.geometry import Convolution, Sides, crop_or_pad
from kernels.precision import wide
from kernels.transposed import conv2d_transpose_flipped

Transforms = tuple[np.ndarray, np.ndarray, np.ndarray]  # Bᵀ [m+2,m+2], G [m+2,3], Aᵀ [m,m+2]

# 1. Equation ------------------------------------------------------------------------------------------------
#
# F(m×m, 3×3) computes an m×m tile of outputs from an (m+2)×(m+2) tile d of inputs and a 3×3 filter g:
#     Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
# with (m+2)² multiplications where the direct sum takes 9·m². Over C input and Cout output channels, ⊙ becomes
# (m+2)² independent matmuls, [tiles,C]·[C,Cout]. On paper, the transforms only add and, for m = 4, multiply by small
# constants. Here they are matmuls, too (section 3), and so multiply: with t = (m+2)², a tile takes t²·C + t·C·Cout +
# m²·t·Cout multiplications instead of 9·m²·C·Cout. For m = 4 and C = Cout = 64 that is 2.2 times fewer, not 4.
# F(4×4) rounds worse: by about 1e-5 of the largest output in float32, compared with 2e-6 for F(2×2).

F2 = (
    np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),  # Bᵀ
    np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),  # G
    np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),  # Aᵀ
)
F4 = (
    np.array(
        [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
    ),
    np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    ),
    np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]),
)


# 2. NumPy reference -----------------------------------------------------------------------------------------


def winograd_tile_reference(tile: np.ndarray, filters: np.ndarray, transforms: Transforms = F2) -> np.ndarray:
    """Compute one output tile directly from the equation, in float64.

    Args:
        tile: Inputs [m+2,m+2].
        filters: [3,3].
        transforms: (Bᵀ, G, Aᵀ) of F(2×2,3×3) or F(4×4,3×3).

    Returns:
        Outputs [m,m].
    """
    bt, g, at = transforms
    return at @ ((g @ np.asarray(filters, np.float64) @ g.T) * (bt @ np.asarray(tile, np.float64) @ bt.T)) @ at.T


# 3. Tensor forms --------------------------------------------------------------------------------------------
#
# All steps are matmuls and gathers of whole rows of channels: gather tiles [(m+2)²,N,C] from the image; compute Bᵀ·d·B
# as (Bᵀ⊗Bᵀ)·d, one matmul with a matrix of (m+2)² rows; compute the (m+2)² products; transform back in the same way;
# gather the m² outputs of each tile. So the transforms run at the speed of matmuls even if no compiler fuses them.


def winograd_conv2d(x: tf.Tensor, filters: tf.Tensor, convolution: Convolution, transforms: Transforms) -> tf.Tensor:
    """x [B,H,W,C], filters [3,3,C,Cout] → [B,H',W',Cout], for stride 1, one group and no dilation."""
    bt, g, at = transforms
    size = convolution.output_size(x.shape[1:3], (3, 3))
    d = _on_tiles(bt, _tiles(x, convolution, size, transforms))  # [(m+2)²,N,C], N tiles
    y = tf.matmul(d, _on_filters(g, filters))  # [(m+2)²,N,Cout]
    return tf.cast(_image(_on_tiles(at, y), size, len(at)), x.dtype)


def _on_tiles(matrix: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """matrix · x · matrixᵀ for each of N tiles and C channels: x [a²,N,C] → [b²,N,C]."""
    both = tf.constant(np.kron(matrix, matrix), x.dtype)
    return tf.reshape(tf.matmul(both, tf.reshape(x, (both.shape[1], -1))), (both.shape[0], -1, x.shape[-1]))


def _on_filters(matrix: np.ndarray, filters) -> tf.Tensor:
    """G g Gᵀ [(m+2)²,C,Cout]. Constant filters (arrays) are transformed once, not by each call of a graph."""
    with tf.init_scope() if isinstance(filters, np.ndarray) else nullcontext():
        return _on_tiles(matrix, tf.reshape(wide(filters), (9, *filters.shape[2:])))


def _tiles(x: tf.Tensor, convolution: Convolution, size: Sides, transforms: Transforms) -> tf.Tensor:
    """The overlapping input tiles of an output of `size`: [B,H,W,C] → [(m+2)²,N,C]."""
    m, tile = transforms[2].shape
    (top, _), (left, _) = convolution.pads(x.shape[1:3], (3, 3))
    rows, columns = (-(-length // m) for length in size)
    below, right = rows * m + 2 - x.shape[1] - top, columns * m + 2 - x.shape[2] - left
    padded = crop_or_pad(wide(x), ((top, below), (left, right)))
    return _gather(padded, _positions((rows, columns), tile, m, padded.shape[2]))


def _positions(tiles: Sides, side: int, step: int, width: int) -> np.ndarray:
    """The index of pixel (i, j) of tile (r, c) in a flattened image of `width`: [side²,tiles]."""
    i, j, r, c = np.ogrid[:side, :side, : tiles[0], : tiles[1]]
    return ((r * step + i) * width + c * step + j).reshape(side * side, -1)


def _gather(x: tf.Tensor, positions: np.ndarray) -> tf.Tensor:
    """The pixels of each image at `positions` [K,P]: [B,H,W,C] → [K,B·P,C]."""
    _, height, width, channels = x.shape
    images = tf.range(tf.shape(x)[0])[:, None] * (height * width)
    return tf.reshape(
        tf.gather(tf.reshape(x, (-1, channels)), tf.constant(positions[:, None], tf.int32) + images),
        (len(positions), -1, channels),
    )


def _image(y: tf.Tensor, size: Sides, m: int) -> tf.Tensor:
    """Assemble the images from the outputs of all tiles: [m²,N,Cout] → [B,H,W,Cout]."""
    rows, columns = (-(-length // m) for length in size)
    row, column = np.ogrid[: size[0], : size[1]]
    tap, tile = (row % m) * m + column % m, (row // m) * columns + column // m  # of each output
    count = tf.shape(y)[1]  # N, the tiles of all images
    images = tf.range(count // (rows * columns))[:, None, None] * (rows * columns)
    positions = tf.constant(tap, tf.int32) * count + tf.constant(tile, tf.int32) + images
    return tf.gather(tf.reshape(y, (-1, y.shape[-1])), positions)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# The gradient to the image is a convolution with the flipped filter (`kernels/transposed.py`), again by Winograd. The
# gradient to the filter applies the transposes of all steps, from the last to the first: with v = Bᵀ·d·B and
# z = A·(∂L/∂Y)·Aᵀ of each tile,
#     ∂L/∂g = Gᵀ [ Σ_tiles vᵀ z ] G,    (m+2)² matmuls [C,N]·[N,Cout] with as few multiplications as the forward pass


def winograd_input_gradient(
    gradient: tf.Tensor,
    filters: tf.Tensor,
    input_size: Sequence[int],
    convolution: Convolution,
    transforms: Transforms,
) -> tf.Tensor:
    """∂L/∂y [B,H',W',Cout] → ∂L/∂x [B,H,W,C]."""
    convolve = partial(winograd_conv2d, transforms=transforms)
    return conv2d_transpose_flipped(gradient, filters, input_size, convolution, convolve)


def winograd_filter_gradient(
    x: tf.Tensor, gradient: tf.Tensor, kernel: Sides, convolution: Convolution, transforms: Transforms
) -> tf.Tensor:
    """x [B,H,W,C], ∂L/∂y [B,H',W',Cout] → ∂L/∂g [3,3,C,Cout], for stride 1."""
    bt, g, at = transforms
    m = len(at)
    height, width = gradient.shape[1:3]
    rows, columns = -(-height // m), -(-width // m)
    filled = crop_or_pad(wide(gradient), ((0, rows * m - height), (0, columns * m - width)))
    dy = _gather(filled, _positions((rows, columns), m, m, columns * m))  # [m²,N,Cout]
    v = _on_tiles(bt, _tiles(x, convolution, (height, width), transforms))  # [(m+2)²,N,C]
    products = tf.matmul(v, _on_tiles(at.T, dy), transpose_a=True)  # [(m+2)²,C,Cout]
    return tf.cast(tf.reshape(_on_tiles(g.T, products), (*kernel, x.shape[-1], gradient.shape[-1])), x.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def winograd_multiplications(output_shape: Sequence[int], channels: int, transforms: Transforms = F2) -> int:
    """Count the multiplications of all four steps, as they run; the direct form needs 9·C per output.

    Args:
        output_shape: [B,H',W',Cout].
        channels: C, the number of input channels.
        transforms: (Bᵀ, G, Aᵀ) of F(2×2,3×3) or F(4×4,3×3).

    Returns:
        The number of multiplications in one call: of both transforms and of the products of each tile, and of the
        transform of the filters.
    """
    m, tile = transforms[2].shape
    batch, height, width, out_channels = output_shape
    tiles, taps = batch * -(-height // m) * -(-width // m), tile * tile  # (m+2)² of each tile
    products = taps * channels * out_channels
    into, back = taps * taps * channels, m * m * taps * out_channels
    return tiles * (into + products + back) + 9 * taps * channels * out_channels
