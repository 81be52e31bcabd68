"""Winograd's minimal filtering: a 3×3 convolution with 2.25 or 4 times fewer multiplications.

Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), after Winograd (1980).
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from kernels.geometry import output_size, window_padding

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


def winograd2(x, filters, stride, padding, dilation, groups):
    """`conv2d` by F(2×2, 3×3)."""
    return _winograd(x, filters, stride, padding, dilation, groups, F2)


def winograd4(x, filters, stride, padding, dilation, groups):
    """`conv2d` by F(4×4, 3×3)."""
    return _winograd(x, filters, stride, padding, dilation, groups, F4)


def _both_axes(matrix: np.ndarray, x: tf.Tensor) -> tf.Tensor:
    """matrix · x · matrixᵀ over the first two axes: [a,a,…] → [b,b,…]."""
    m = tf.constant(matrix, x.dtype)
    x = tf.tensordot(m, x, 1)  # [b,a,…]
    return tf.transpose(tf.tensordot(m, x, ((1,), (1,))), (1, 0, *range(2, len(x.shape))))


def _winograd(x, filters, stride, padding, dilation, groups, transforms):
    if tuple(filters.shape[:2]) != (3, 3) or stride != (1, 1) or dilation != (1, 1) or groups != 1:
        raise ValueError(
            f"Winograd's algorithm needs 3×3 filters, stride 1, no dilation and one group; got filters "
            f'{tuple(filters.shape)}, stride {stride}, dilation {dilation}, groups {groups}: use algorithm="nn"'
        )
    bt, g, at = transforms
    m, tile = at.shape
    dtype, channels, out_channels = x.dtype, x.shape[-1], filters.shape[-1]
    height, width = output_size(padding, x.shape[1:3], 3, 1)
    rows, columns = -(-height // m), -(-width // m)
    (top, _), (left, _) = window_padding(padding, x.shape[1:3], 3, 1)
    below, right = rows * m + 2 - x.shape[1] - top, columns * m + 2 - x.shape[2] - left
    x = tf.pad(x, ((0, 0), (top, below), (left, right), (0, 0)))
    if dtype == tf.bfloat16:  # 8 bits of mantissa do not survive the transforms
        x, filters = tf.cast(x, tf.float32), tf.cast(filters, tf.float32)
    pixels = [
        [x[:, i : i + (rows - 1) * m + 1 : m, j : j + (columns - 1) * m + 1 : m] for j in range(tile)]
        for i in range(tile)
    ]
    d = tf.stack([tf.stack(row) for row in pixels])  # [tile,tile,B,rows,columns,C]
    d = tf.reshape(_both_axes(bt, d), (tile, tile, -1, channels))  # [tile,tile,N,C], N tiles
    y = tf.matmul(d, _both_axes(g, filters))  # [tile,tile,N,Cout]
    y = tf.reshape(_both_axes(at, y), (m, m, -1, rows, columns, out_channels))
    y = tf.transpose(y, (2, 3, 0, 4, 1, 5))  # [B,rows,m,columns,m,Cout]
    y = tf.reshape(y, (-1, rows * m, columns * m, out_channels))
    return tf.cast(y[:, :height, :width], dtype)


# 4. Gradient by hand ----------------------------------------------------------------------------------------
#
# None of its own: the gradients of `kernels.convolution`, which hold for every form. The steps above are all
# differentiable, and what the tape makes of them is the same.


# 5. Cost ----------------------------------------------------------------------------------------------------


def winograd_multiplications(output_shape, channels: int, transforms=F2) -> int:
    """Multiplications in the batched matmuls, where the direct form takes 9·C an output."""
    m, tile = transforms[2].shape
    batch, height, width, out_channels = output_shape
    return batch * -(-height // m) * -(-width // m) * tile * tile * channels * out_channels
