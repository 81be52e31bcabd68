"""Lesson 1: a convolution, forward and backward.

    y[b,p,q,k] = bias[k] + Σ_{i,j,c} x[b, p·s + i − pad, q·s + j − pad, c] · w[i,j,c,k]

s is the stride. `pad` is the number of zeros on each side of the image. Each output reads one window of the padded
image. The backward pass visits the same windows. It starts from g = ∂L/∂y. Each output sends

    to each pixel of its window     g · (the weight that multiplied this pixel)
    to each weight of the filter    g · (the pixel that this weight multiplied)

and the contributions that arrive at one pixel, or at one weight, are added. The images are x [B,H,W,C]: B images of
H×W pixels and C channels. The filters are w [kh,kw,C,K]: K filters of kh×kw taps.

Run `python docs/lessons/1_convolution.py`.
"""

import numpy as np

IMAGE = np.array([[1, 0, 2, 1, 0], [2, 1, 0, 1, 3], [0, 2, 1, 0, 1], [1, 0, 3, 2, 0], [0, 1, 1, 0, 2]])
SOBEL = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])  # a filter for vertical edges: left minus right
GRADIENT = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 2]])  # ∂L/∂y of the loss L = y[1,1] + 2·y[2,2]
X, W, G = IMAGE[None, :, :, None], SOBEL[:, :, None, None], GRADIENT[None, :, :, None]  # [1,5,5,1] [3,3,1,1] [1,3,3,1]


def pad_image(x, pad):
    """Add `pad` rows and columns of zeros on each side: [B,H,W,C] → [B,H+2·pad,W+2·pad,C]."""
    return np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))


def output_size(length, taps, stride, pad):
    """Count the windows along one axis: they start at 0, s, 2·s, … and end inside the padded image.

    Five pixels with padding 1 are seven; three taps with stride 2 start at 0, 2 and 4. AlexNet's conv1 has 55 windows.

    >>> output_size(5, 3, stride=2, pad=1), output_size(227, 11, stride=4, pad=0)
    (3, 55)
    """
    return (length + 2 * pad - taps) // stride + 1


def window(p, q, kh, kw, stride):
    """The part of the padded image that output (p, q) reads, as an index: kh rows and kw columns.

    >>> pad_image(X, 1)[window(1, 1, 3, 3, stride=2)][0, :, :, 0]
    array([[1, 0, 1],
           [2, 1, 0],
           [0, 3, 2]])
    """
    return np.s_[:, p * stride : p * stride + kh, q * stride : q * stride + kw, :]


def convolution(x, w, bias, stride=1, pad=0):
    """The forward pass: x [B,H,W,C], w [kh,kw,C,K], bias [K] → y [B,H',W',K].

    The window of y[0,0] lies partly in the padding. The window of y[1,1] lies in the middle of the image.

        0 0 0     1 0 −1                        1 0 1     1 0 −1
        0 1 0  ·  2 0 −2  = −1·1 = −1           2 1 0  ·  2 0 −2  = 1·1 + 2·2 − 1·1 − 1·2 = 2
        0 2 1     1 0 −1                        0 3 2     1 0 −1

    >>> convolution(X, W, bias=0, stride=2, pad=1)[0, :, :, 0]
    array([[-1., -2.,  3.],
           [-5.,  2.,  3.],
           [-2.,  0.,  2.]])
    """
    (batch, height, width, _), (kh, kw, _, filters) = x.shape, w.shape
    y = np.zeros((batch, output_size(height, kh, stride, pad), output_size(width, kw, stride, pad), filters))
    x = pad_image(x, pad)
    for p, q in np.ndindex(y.shape[1:3]):
        pixels = x[window(p, q, kh, kw, stride)]  # [B,kh,kw,C]
        y[:, p, q, :] = np.tensordot(pixels, w, axes=3) + bias  # Σ over kh, kw, C: [B,kh,kw,C]·[kh,kw,C,K] = [B,K]
    return y


def input_gradient(g, w, input_size, stride=1, pad=0):
    """∂L/∂x: g [B,H',W',K], w [kh,kw,C,K], `input_size` (H, W) → [B,H,W,C].

    y[1,1] sends 1·w to its window, and y[2,2] sends 2·w to its own. The two windows share the pixel x[3,3]. It receives
    1·(−1) as the last pixel of the first window, and 2·1 as the first pixel of the second: 1 in total.

    >>> input_gradient(G, W, (5, 5), stride=2, pad=1)[0, :, :, 0]
    array([[ 0.,  0.,  0.,  0.,  0.],
           [ 0.,  1.,  0., -1.,  0.],
           [ 0.,  2.,  0., -2.,  0.],
           [ 0.,  1.,  0.,  1.,  0.],
           [ 0.,  0.,  0.,  4.,  0.]])
    """
    (batch, rows, columns, _), (kh, kw, channels, _), (height, width) = g.shape, w.shape, input_size
    dx = np.zeros((batch, height + 2 * pad, width + 2 * pad, channels))  # of the padded image
    for p, q in np.ndindex(rows, columns):
        dx[window(p, q, kh, kw, stride)] += np.tensordot(g[:, p, q, :], w, axes=(1, 3))  # Σ over K: [B,kh,kw,C]
    return dx[:, pad : pad + height, pad : pad + width, :]  # the padding is no part of x


def filter_gradient(x, g, kh, kw, stride=1, pad=0):
    """∂L/∂w: x [B,H,W,C], g [B,H',W',K] → [kh,kw,C,K].

    The filter receives 1 times the window of y[1,1], and 2 times the window of y[2,2].

        1 0 1         2 0 0     5 0 1
        2 1 0  +  2 · 0 2 0  =  2 5 0
        0 3 2         0 0 0     0 3 2

    >>> filter_gradient(X, G, 3, 3, stride=2, pad=1)[:, :, 0, 0]
    array([[5., 0., 1.],
           [2., 5., 0.],
           [0., 3., 2.]])
    """
    dw = np.zeros((kh, kw, x.shape[3], g.shape[3]))
    x = pad_image(x, pad)
    for p, q in np.ndindex(g.shape[1:3]):
        pixels = x[window(p, q, kh, kw, stride)]  # [B,kh,kw,C]
        dw += np.tensordot(pixels, g[:, p, q, :], axes=(0, 0))  # Σ over B: [B,kh,kw,C]·[B,K] = [kh,kw,C,K]
    return dw


def bias_gradient(g):
    """∂L/∂bias: the bias of a filter is a term of each of its outputs, so g [B,H',W',K] is summed → [K].

    >>> bias_gradient(G)
    array([3])
    """
    return g.sum(axis=(0, 1, 2))


def central_differences(loss, x, h=1e-5):
    """∂L/∂x element by element, without any rule: (L(x + h) − L(x − h)) / 2h. This checks the gradients above."""
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = h
        gradient[place] = (loss(x + step) - loss(x - step)) / (2 * h)
    return gradient


def main():
    """Print the worked example and compare its gradients with central differences."""
    y, dx, dw = convolution(X, W, 0, 2, 1), input_gradient(G, W, (5, 5), 2, 1), filter_gradient(X, G, 3, 3, 2, 1)
    print(f"image x\n{IMAGE}\nfilter w\n{SOBEL}\ny, with stride 2 and padding 1\n{y[0, :, :, 0]}")
    print(f"g = ∂L/∂y\n{GRADIENT}\n∂L/∂x\n{dx[0, :, :, 0]}\n∂L/∂w\n{dw[:, :, 0, 0]}")
    by_x = central_differences(lambda x: (G * convolution(x, W, 0, 2, 1)).sum(), X)
    by_w = central_differences(lambda w: (G * convolution(X, w, 0, 2, 1)).sum(), W)
    error = max(abs(dx - by_x).max(), abs(dw - by_w).max())
    print(f"Largest difference from central differences: {error:.0e}")


if __name__ == "__main__":
    main()
