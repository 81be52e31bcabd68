"""Winograd's minimal filtering: a 3×3 convolution with 2.25 or 4 times fewer multiplications.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), after Winograd (1980).
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import tensorflow as tf

from kernels.geometry import crop_or_pad, output_size, window_padding

# 1. Equation ------------------------------------------------------------------------------------------------
#
# F(m×m, 3×3) computes an m×m tile of outputs from an (m+2)×(m+2) tile d of inputs and a 3×3 filter g:
#     Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A
# with (m+2)² multiplications where the direct sum takes 9·m². Over C input and Cout output channels, ⊙ becomes
# (m+2)² independent matmuls, [tiles,C]·[C,Cout]; the transforms only add (and, for m = 4, multiply by small constants,
# which is why F(4×4) rounds worse: about 1e-5 of the largest output in float32, against 2e-6 for F(2×2)).

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


def winograd_tile_reference(tile, filters, transforms=F2) -> np.ndarray:
    """One m×m output tile from one (m+2)×(m+2) input tile and one 3×3 filter, in float64."""
    bt, g, at = transforms
    return at @ ((g @ np.asarray(filters, np.float64) @ g.T) * (bt @ np.asarray(tile, np.float64) @ bt.T)) @ at.T


# 3. Tensor forms --------------------------------------------------------------------------------------------
#
# Everything is a matmul between two gathers of whole rows of channels: tiles [(m+2)²,N,C] out of the image; Bᵀ·d·B as
# (Bᵀ⊗Bᵀ)·d, one matmul with a matrix of (m+2)² rows; the (m+2)² products; Aᵀ·y·A likewise; and the m² outputs of each
# tile to where they belong. So the transforms run at the speed of matmuls, also without a compiler that fuses them.


def winograd2(x, filters, stride, padding, dilation, groups):
    """`conv2d` by F(2×2, 3×3), with its arguments: [B,H,W,C], [3,3,C,Cout] → [B,H',W',Cout]."""
    return _winograd(x, filters, stride, padding, dilation, groups, F2)


def winograd4(x, filters, stride, padding, dilation, groups):
    """`conv2d` by F(4×4, 3×3), likewise."""
    return _winograd(x, filters, stride, padding, dilation, groups, F4)


def _winograd(x, filters, stride, padding, dilation, groups, transforms):
    check_winograd(filters.shape, stride, dilation, groups)
    bt, g, at = transforms
    height, width = output_size(padding, x.shape[1:3], 3, 1)
    d = _on_tiles(bt, _tiles(x, padding, (height, width), transforms))  # [(m+2)²,N,C], N tiles
    y = tf.matmul(d, _on_filters(g, filters))  # [(m+2)²,N,Cout]
    return tf.cast(_image(_on_tiles(at, y), (height, width), len(at)), x.dtype)


def check_winograd(filter_shape, stride, dilation, groups) -> None:
    """ValueError for what Winograd's algorithm cannot do."""
    if tuple(filter_shape[:2]) != (3, 3) or stride != (1, 1) or dilation != (1, 1) or groups != 1:
        raise ValueError(
            f"Winograd's algorithm needs 3×3 filters, stride 1, no dilation and one group; got filters "
            f'{tuple(filter_shape)}, stride {stride}, dilation {dilation}, groups {groups}: use algorithm="nn"'
        )


def _wide(x) -> tf.Tensor:
    """bfloat16 as float32: 8 bits of mantissa do not survive the transforms."""
    return tf.cast(x, tf.float32) if x.dtype == tf.bfloat16 else x


def _on_tiles(matrix: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """matrix · x · matrixᵀ, x a square of numbers [a²,N,C] for each of N tiles and C channels → [b²,N,C]."""
    both = tf.constant(np.kron(matrix, matrix), x.dtype)
    return tf.reshape(tf.matmul(both, tf.reshape(x, (both.shape[1], -1))), (both.shape[0], -1, x.shape[-1]))


def _on_filters(matrix: np.ndarray, filters) -> tf.Tensor:
    """G g Gᵀ [(m+2)²,C,Cout]. Of a constant, an array, it is made once, and not by each call of a graph."""
    with tf.init_scope() if isinstance(filters, np.ndarray) else nullcontext():
        return _on_tiles(matrix, tf.reshape(_wide(filters), (9, *filters.shape[2:])))


def _tiles(x: tf.Tensor, padding, size: tuple[int, int], transforms) -> tf.Tensor:
    """The overlapping tiles of inputs that outputs of `size` are made from: [B,H,W,C] → [(m+2)²,N,C]."""
    m, tile = transforms[2].shape
    (top, _), (left, _) = window_padding(padding, x.shape[1:3], 3, 1)
    rows, columns = (-(-length // m) for length in size)
    below, right = rows * m + 2 - x.shape[1] - top, columns * m + 2 - x.shape[2] - left
    padded = crop_or_pad(_wide(x), ((top, below), (left, right)))
    return _taken(padded, _places((rows, columns), tile, m, padded.shape[2]))


def _places(tiles: tuple[int, int], side: int, step: int, width: int) -> np.ndarray:
    """Where pixel (i, j) of tile (r, c) lies in an image of `width` that is one row: [side²,tiles]."""
    i, j, r, c = np.ogrid[:side, :side, : tiles[0], : tiles[1]]
    return ((r * step + i) * width + c * step + j).reshape(side * side, -1)


def _taken(x: tf.Tensor, places: np.ndarray) -> tf.Tensor:
    """The pixels of each image at `places` [K,P]: [B,H,W,C] → [K,B·P,C]."""
    _, height, width, channels = x.shape
    images = tf.range(tf.shape(x)[0])[:, None] * (height * width)
    return tf.reshape(
        tf.gather(tf.reshape(x, (-1, channels)), tf.constant(places[:, None], tf.int32) + images),
        (len(places), -1, channels),
    )


def _image(y: tf.Tensor, size: tuple[int, int], m: int) -> tf.Tensor:
    """The outputs of all tiles as images: [m²,N,Cout] → [B,H,W,Cout]."""
    rows, columns = (-(-length // m) for length in size)
    row, column = np.ogrid[: size[0], : size[1]]
    tap, tile = (row % m) * m + column % m, (row // m) * columns + column // m  # of each output
    count = tf.shape(y)[1]  # N, all images' tiles
    images = tf.range(count // (rows * columns))[:, None, None] * (rows * columns)
    places = tf.constant(tap, tf.int32) * count + tf.constant(tile, tf.int32) + images
    return tf.gather(tf.reshape(y, (-1, y.shape[-1])), places)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# To the image: a convolution with the filter flipped, Winograd's again (`kernels.convolution`). To the filter the
# transposes of all steps, from the last to the first: with v = Bᵀ·d·B and z = A·(∂L/∂Y)·Aᵀ of each tile,
#     ∂L/∂g = Gᵀ [ Σ_tiles vᵀ z ] G,    (m+2)² matmuls [C,N]·[N,Cout] of as few multiplications as the forward pass


def winograd_filter_gradient(x: tf.Tensor, gradient: tf.Tensor, padding, transforms=F4) -> tf.Tensor:
    """∂L/∂g [3,3,C,Cout] from x [B,H,W,C] and ∂L/∂y [B,H',W',Cout], for stride 1."""
    bt, g, at = transforms
    m = len(at)
    height, width = gradient.shape[1:3]
    rows, columns = -(-height // m), -(-width // m)
    whole = crop_or_pad(_wide(gradient), ((0, rows * m - height), (0, columns * m - width)))
    dy = _taken(whole, _places((rows, columns), m, m, columns * m))  # [m²,N,Cout]
    v = _on_tiles(bt, _tiles(x, padding, (height, width), transforms))  # [(m+2)²,N,C]
    products = tf.matmul(v, _on_tiles(at.T, dy), transpose_a=True)  # [(m+2)²,C,Cout]
    return tf.cast(tf.reshape(_on_tiles(g.T, products), (3, 3, x.shape[-1], gradient.shape[-1])), x.dtype)


# 5. Cost ----------------------------------------------------------------------------------------------------


def winograd_multiplications(output_shape, channels: int, transforms=F2) -> int:
    """Multiplications in the batched matmuls, where the direct form takes 9·C an output."""
    m, tile = transforms[2].shape
    batch, height, width, out_channels = output_shape
    return batch * -(-height // m) * -(-width // m) * tile * tile * channels * out_channels
