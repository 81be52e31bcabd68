"""Lesson 2: max-pooling, batch normalization and local response normalization, forward and backward.

    max-pool      y = the largest pixel of each window and channel
    batch norm    x̂ = (x − μ) / √(σ² + ε),  y = γ·x̂ + β        μ, σ² over all B·H·W pixels of a channel
    LRN           y_i = x_i / (k + α·Σ_j x_j²)^β               over the channels j of one pixel with |j − i| ≤ r

All maps are [B,H,W,C], and g = ∂L/∂y has the shape of y. Run `python docs/lessons/2_pooling_and_normalization.py`.
"""

import numpy as np

IMAGE = np.array([[1, 2, 0, 5, 1], [0, 3, 1, 2, 4], [2, 7, 0, 1, 3], [1, 0, 4, 2, 4], [3, 1, 0, 2, 0]])
SQUARE = np.array([[2, 5, 8], [5, 5, 5], [2, 5, 8]])  # μ = 5 and σ² = (4·9 + 5·0)/9 = 4
X, Q = IMAGE[None, :, :, None], SQUARE[None, :, :, None]  # [1,5,5,1], [1,3,3,1]


def window(p, q, size, stride):
    """The part of the padded image that output (p, q) reads, as an index."""
    return np.s_[:, p * stride : p * stride + size, q * stride : q * stride + size, :]


def pad_image(x, pad):
    """Add `pad` rows and columns of −∞ on each side, which are never the largest: [B,H,W,C] → [B,H+2·pad,W+2·pad,C]."""
    return np.pad(x.astype(float), ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf)


def max_pool(x, size, stride, pad=0):
    """[B,H,W,C] → [B,H',W',C]. With size 3 and stride 2, as in AlexNet and ResNet, the windows overlap.

    >>> max_pool(X, size=3, stride=2, pad=1)[0, :, :, 0]
    array([[3., 5., 5.],
           [7., 7., 4.],
           [3., 4., 4.]])
    """
    rows, columns = ((length + 2 * pad - size) // stride + 1 for length in x.shape[1:3])
    y, x = np.zeros((x.shape[0], rows, columns, x.shape[3])), pad_image(x, pad)
    for p, q in np.ndindex(rows, columns):
        y[:, p, q, :] = x[window(p, q, size, stride)].max(axis=(1, 2))  # [B,size,size,C] → [B,C]
    return y


def max_pool_gradient(x, g, size, stride, pad=0):
    """∂L/∂x [B,H,W,C]: each window sends its g to its largest pixel, the first one if several are equal.

    The 7 wins both windows on the left, so it receives 1 + 3. In the last window two pixels are 4, and the first wins.

    >>> max_pool_gradient(X, np.array([[1, 2], [3, 4]])[None, :, :, None], size=3, stride=2)[0, :, :, 0]
    array([[0., 0., 0., 2., 0.],
           [0., 0., 0., 0., 0.],
           [0., 4., 0., 0., 0.],
           [0., 0., 4., 0., 0.],
           [0., 0., 0., 0., 0.]])
    """
    (batch, height, width, channels), padded = x.shape, pad_image(x, pad)
    dx = np.zeros(padded.shape)
    for p, q in np.ndindex(g.shape[1:3]):
        pixels = padded[window(p, q, size, stride)].reshape(batch, size * size, channels)
        wins = np.arange(size * size)[:, None] == pixels.argmax(axis=1)[:, None, :]  # [B,size²,C], one True per channel
        dx[window(p, q, size, stride)] += (wins * g[:, p, q, None, :]).reshape(batch, size, size, channels)
    return dx[:, pad : pad + height, pad : pad + width, :]


def batch_norm(x, gamma, beta, epsilon=1e-5):
    """Training: normalize x [B,H,W,C] by the moments of the batch, then scale and shift by γ and β [C].

    Inference is the same with averages of μ and σ² over the training instead of the batch's. The square has μ = 5 and
    σ = 2, so x̂ is −1.5, 0 or 1.5, and y = 2·x̂ + 1 is −2, 1 or 4.

    >>> batch_norm(Q, gamma=2, beta=1, epsilon=0)[0, :, :, 0]
    array([[-2.,  1.,  4.],
           [ 1.,  1.,  1.],
           [-2.,  1.,  4.]])
    """
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))  # [C], [C]
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def batch_norm_gradient(x, g, gamma, epsilon=1e-5):
    """(∂L/∂x [B,H,W,C], ∂L/∂γ [C], ∂L/∂β [C]): ∂L/∂β = Σ g, ∂L/∂γ = Σ g·x̂, and, over m = B·H·W pixels,

        ∂L/∂x = γ/√(σ² + ε) · (g − ∂L/∂β/m − x̂·∂L/∂γ/m)

    because x moves y directly, moves μ by 1/m, and moves σ² by 2(x − μ)/m. Take L = 9·y[0,0], so g is 9 there and 0
    elsewhere, where x̂ = −1.5. Then ∂L/∂β = 9, ∂L/∂γ = −13.5 and ∂L/∂x = 2/2 · (g − 1 + 1.5·x̂).

    >>> dx, dgamma, dbeta = batch_norm_gradient(Q, 9 * (np.arange(9) == 0).reshape(1, 3, 3, 1), gamma=2, epsilon=0)
    >>> dx[0, :, :, 0], dgamma, dbeta
    (array([[ 5.75, -1.  ,  1.25],
           [-1.  , -1.  , -1.  ],
           [-3.25, -1.  ,  1.25]]), array([-13.5]), array([9]))
    """
    mean, deviation = x.mean(axis=(0, 1, 2)), np.sqrt(x.var(axis=(0, 1, 2)) + epsilon)  # [C], [C]
    normalized, m = (x - mean) / deviation, x[..., 0].size
    dbeta, dgamma = g.sum(axis=(0, 1, 2)), (g * normalized).sum(axis=(0, 1, 2))
    return gamma / deviation * (g - dbeta / m - normalized * dgamma / m), dgamma, dbeta


def neighbor_sums(x, r):
    """Σ_j x_j over the channels |j − i| ≤ r that exist: with r = 1, the channels 1, 2, 3, 4 become 3, 6, 9, 7."""
    return np.stack([x[..., max(i - r, 0) : i + r + 1].sum(axis=-1) for i in range(x.shape[-1])], axis=-1)


def lrn(x, r=2, k=2.0, alpha=1e-4, beta=0.75):
    """[B,H,W,C] → [B,H,W,C]. For a pixel with the channels 1, 2, 3 and α = 1, s = 2 + 1 + 4 + 9 = 16 and s^¾ = 8.

    >>> lrn(np.array([1, 2, 3]), alpha=1)
    array([0.125, 0.25 , 0.375])
    """
    return x / (k + alpha * neighbor_sums(x**2, r)) ** beta


def lrn_gradient(x, g, r=2, k=2.0, alpha=1e-4, beta=0.75):
    """∂L/∂x_j = g_j·s_j^−β − 2αβ·x_j·Σ_i g_i·x_i·s_i^(−β−1), s = k + α·Σ x²: x_j moves y_j, and s of its neighbors.

    For L = 128·y_1 at the same pixel, g_1·s^−β = 16 and the sum is 128·1/128 = 1, so ∂L/∂x = (16 − 1.5, −3, −4.5).

    >>> lrn_gradient(np.array([1, 2, 3]), np.array([128, 0, 0]), alpha=1)
    array([14.5, -3. , -4.5])
    """
    s = k + alpha * neighbor_sums(x**2, r)
    return g * s**-beta - 2 * alpha * beta * x * neighbor_sums(g * x * s ** (-beta - 1), r)


def central_differences(loss, x, h=1e-5):
    """∂L/∂x element by element, without any rule: (L(x + h) − L(x − h)) / 2h. This checks the gradients above."""
    steps = h * np.eye(x.size).reshape(-1, *x.shape)  # one step for each element of x
    return np.reshape([(loss(x + step) - loss(x - step)) / (2 * h) for step in steps], x.shape)


def main():
    """Print the worked examples and compare the gradients of random maps with central differences."""
    print(f"image\n{IMAGE}\nmax-pool 3×3, stride 2\n{max_pool(X, 3, 2)[0, :, :, 0]}")
    print(f"image\n{SQUARE}\nbatch norm, γ = 2, β = 1\n{batch_norm(Q, 2, 1, 0)[0, :, :, 0]}")
    print(f"channels of a pixel\n[1 2 3]\nLRN, α = 1\n{lrn(np.array([1, 2, 3]), alpha=1)}")
    random = np.random.default_rng(0)
    x, g, pooled = (random.standard_normal(shape) for shape in ((2, 5, 5, 3), (2, 5, 5, 3), (2, 2, 2, 3)))
    by_pool = central_differences(lambda x: (pooled * max_pool(x, 3, 2)).sum(), x)
    by_norm = central_differences(lambda x: (g * batch_norm(x, 2, 1)).sum(), x)
    by_lrn = central_differences(lambda x: (g * lrn(x)).sum(), x)
    dx = max_pool_gradient(x, pooled, 3, 2), batch_norm_gradient(x, g, 2)[0], lrn_gradient(x, g)
    error = max(abs(a - b).max() for a, b in zip(dx, (by_pool, by_norm, by_lrn), strict=True))
    print(f"Largest difference from central differences: {error:.0e}")


if __name__ == "__main__":
    main()
