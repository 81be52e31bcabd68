"""Exercises 1 to 3: a convolution and its two gradients."""

from __future__ import annotations

import numpy as np

from kernels.convolution import conv2d_reference
from rawcnn.explain.exercises.exercise import Exercise, Inputs, central_differences, integers, normal

EQUATION = """
    y[b, p, q, o] = Σ_{i,j,c}  x[b, p·s + i − pad, q·s + j − pad, c] · w[i, j, c, o]

x [B,H,W,C] is 0 outside of the image. s is the stride; `pad` rows and columns of zeros stand on each side.
"""


def conv2d(x, filters, stride, pad):
    """Convolve images with filters (a cross-correlation: the filters are not flipped).

    Args:
        x: Images [B,H,W,C].
        filters: [kh,kw,C,O].
        stride: s, an int.
        pad: Rows and columns of zeros on each side, an int.

    Returns:
        y [B,H',W',O] with H' = ⌊(H + 2·pad − kh)/s⌋ + 1, and W' likewise.
    """
    kh, kw = filters.shape[:2]
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = ((padded.shape[1] - kh) // stride + 1, (padded.shape[2] - kw) // stride + 1)
    y = np.zeros((len(x), height, width, filters.shape[3]))
    for p in range(height):
        for q in range(width):
            window = padded[:, p * stride : p * stride + kh, q * stride : q * stride + kw]  # [B,kh,kw,C]
            y[:, p, q] = np.tensordot(window, filters, 3)
    return y


def conv2d_input_gradient(gradient, filters, stride, pad, size):
    """Compute ∂L/∂x of a convolution from ∂L/∂y.

    Args:
        gradient: ∂L/∂y [B,H',W',O].
        filters: [kh,kw,C,O].
        stride: s, an int.
        pad: Rows and columns of zeros on each side, an int.
        size: (H, W) of the images.

    Returns:
        ∂L/∂x [B,H,W,C].
    """
    kh, kw, channels, _ = filters.shape
    padded = np.zeros((len(gradient), size[0] + 2 * pad, size[1] + 2 * pad, channels))
    for p in range(gradient.shape[1]):
        for q in range(gradient.shape[2]):
            back = np.tensordot(gradient[:, p, q], filters, (1, 3))  # [B,kh,kw,C]
            padded[:, p * stride : p * stride + kh, q * stride : q * stride + kw] += back
    return padded[:, pad : pad + size[0], pad : pad + size[1]]


def conv2d_filter_gradient(x, gradient, stride, pad, size):
    """Compute ∂L/∂w of a convolution from ∂L/∂y.

    Args:
        x: Images [B,H,W,C].
        gradient: ∂L/∂y [B,H',W',O].
        stride: s, an int.
        pad: Rows and columns of zeros on each side, an int.
        size: (kh, kw) of the filters.

    Returns:
        ∂L/∂w [kh,kw,C,O].
    """
    kh, kw = size
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    filters = np.zeros((kh, kw, x.shape[3], gradient.shape[3]))
    for p in range(gradient.shape[1]):
        for q in range(gradient.shape[2]):
            window = padded[:, p * stride : p * stride + kh, q * stride : q * stride + kw]  # [B,kh,kw,C]
            filters += np.tensordot(window, gradient[:, p, q], (0, 0))
    return filters


# Inputs and right values -----------------------------------------------------------------------------------------


def _reference(x: np.ndarray, filters: np.ndarray, stride: int, pad: int) -> np.ndarray:
    return conv2d_reference(x, filters, stride, ((pad, pad), (pad, pad)))


def _adjoint(inputs: Inputs, variable: str, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient, from the reference alone: the convolution is linear, so its derivative is its value at a unit array.

    Σ gradient · conv2d(…) with `variable` replaced by an array that is 1 at one place and 0 elsewhere.
    """
    known = {name: inputs[name] for name in ("x", "filters", "stride", "pad") if name in inputs}
    result = np.zeros(shape)
    for place in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[place] = 1
        result[place] = np.sum(inputs["gradient"] * _reference(**{**known, variable: unit}))
    return result


def _image_gradient(**inputs) -> np.ndarray:
    return _adjoint(inputs, "x", (len(inputs["gradient"]), *inputs["size"], inputs["filters"].shape[2]))


def _filter_gradient(**inputs) -> np.ndarray:
    shape = (*inputs["size"], inputs["x"].shape[3], inputs["gradient"].shape[3])
    return _adjoint(inputs, "filters", shape)


def _image_differences(inputs: Inputs) -> np.ndarray:
    x = normal(len(inputs["gradient"]), *inputs["size"], inputs["filters"].shape[2], seed=9)
    forward = {name: inputs[name] for name in ("filters", "stride", "pad")}
    return central_differences(lambda x: float(np.sum(inputs["gradient"] * _reference(x, **forward))), x)


def _filter_differences(inputs: Inputs) -> np.ndarray:
    filters = normal(*inputs["size"], inputs["x"].shape[3], inputs["gradient"].shape[3], seed=9)
    rest = inputs["stride"], inputs["pad"]
    return central_differences(
        lambda filters: float(np.sum(inputs["gradient"] * _reference(inputs["x"], filters, *rest))), filters
    )


def _window(index, x, filters, stride, pad):
    b, p, q, o = index
    kh, kw = filters.shape[:2]
    padded = np.pad(x[b], ((pad, pad), (pad, pad), (0, 0)))
    window = padded[p * stride : p * stride + kh, q * stride : q * stride + kw]
    return {
        f"the window of x, from row {p * stride - pad} and column {q * stride - pad}": window[..., 0],
        f"the filter of output channel {o}": filters[:, :, 0, o],
    }


def _readers(index, gradient, filters, stride, pad, size):
    b, row, column, c = index
    kh, kw = filters.shape[:2]
    terms = [
        (p, q, row + pad - p * stride, column + pad - q * stride)
        for p, q in np.ndindex(*gradient.shape[1:3])
        if 0 <= row + pad - p * stride < kh and 0 <= column + pad - q * stride < kw
    ]
    products = [[p, q, gradient[b, p, q, 0], filters[i, j, c, 0]] for p, q, i, j in terms]
    return {"the outputs that read this pixel: row, column, gradient, weight (first output channel)": products}


def _tap(index, x, gradient, stride, pad, size):
    i, j, c, o = index
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = gradient.shape[1:3]
    read = padded[0, i : i + stride * height : stride, j : j + stride * width : stride, c]
    return {"what this tap reads of the first image": read, "the gradient there": gradient[0, :, :, o]}


FORWARD = Exercise(
    title="the convolution",
    task=EQUATION,
    solution=conv2d,
    expected=_reference,
    cases={
        "one 5×5 image, one 3×3 filter": dict(
            x=integers(1, 5, 5, 1), filters=integers(3, 3, 1, 1, seed=1), stride=1, pad=0
        ),
        "stride 2 and padding 1": dict(x=integers(1, 5, 5, 1), filters=integers(3, 3, 1, 1, seed=1), stride=2, pad=1),
        "two images, three channels in, two out": dict(
            x=normal(2, 6, 7, 3), filters=normal(3, 2, 3, 2, seed=1), stride=2, pad=1
        ),
    },
    hints=(
        "Put the zeros around the images first (np.pad); then no index lies outside.",
        "Two loops suffice, over the rows p and the columns q of the output. Take the window that (p, q) reads.",
        "The window is padded[:, p*s : p*s + kh, q*s : q*s + kw]; multiply it by the filters and sum over the last "
        "three axes, for instance with np.tensordot(window, filters, 3).",
    ),
    source="kernels/convolution.py",
    look=_window,
)

IMAGE_GRADIENT = Exercise(
    title="the convolution's gradient to the image",
    task=f"""The convolution is
{EQUATION}
Find ∂L/∂x from g = ∂L/∂y. Which outputs read the pixel x[b, r, t, c], and with which weight?
    ∂L/∂x[b, r, t, c] = Σ_{{p,q,o}}  g[b, p, q, o] · w[r − p·s + pad, t − q·s + pad, c, o]     where w has this index
""",
    solution=conv2d_input_gradient,
    expected=_image_gradient,
    cases={
        "one 3×3 filter over a 4×4 image": dict(
            gradient=integers(1, 2, 2, 1), filters=integers(3, 3, 1, 1, seed=1), stride=1, pad=0, size=(4, 4)
        ),
        "stride 2 and padding 1": dict(
            gradient=integers(1, 3, 3, 1), filters=integers(3, 3, 1, 1, seed=1), stride=2, pad=1, size=(5, 5)
        ),
        "rows that no window reads": dict(
            gradient=normal(2, 2, 2, 2), filters=normal(2, 1, 2, 2, seed=1), stride=3, pad=0, size=(6, 4)
        ),
    },
    hints=(
        "Do the forward pass backwards: where it read a window, add to this window.",
        "The output (p, q) adds g[b, p, q] · w, summed over o, to the pixels that it read.",
        "Collect in an array of zeros with the padding around it, and cut the padding off at the end.",
    ),
    source="kernels/convolution.py",
    look=_readers,
    differences=_image_differences,
)

FILTER_GRADIENT = Exercise(
    title="the convolution's gradient to its filters",
    task=f"""The convolution is
{EQUATION}
Find ∂L/∂w from g = ∂L/∂y. Each weight is used at every position and for every image, and the gradients add up:
    ∂L/∂w[i, j, c, o] = Σ_{{b,p,q}}  x[b, p·s + i − pad, q·s + j − pad, c] · g[b, p, q, o]
""",
    solution=conv2d_filter_gradient,
    expected=_filter_gradient,
    cases={
        "one 3×3 filter over a 4×4 image": dict(
            x=integers(1, 4, 4, 1), gradient=integers(1, 2, 2, 1, seed=1), stride=1, pad=0, size=(3, 3)
        ),
        "stride 2 and padding 1": dict(
            x=integers(1, 5, 5, 1), gradient=integers(1, 3, 3, 1, seed=1), stride=2, pad=1, size=(3, 3)
        ),
        "two images, three channels in, two out": dict(
            x=normal(2, 4, 5, 3), gradient=normal(2, 2, 3, 2, seed=1), stride=2, pad=1, size=(3, 2)
        ),
    },
    hints=(
        "Take the same windows as in the forward pass.",
        "The output (p, q) adds window · g[b, p, q] to all weights, for each image.",
        "np.tensordot(window, gradient[:, p, q], (0, 0)) sums over the images and gives [kh,kw,C,O].",
    ),
    source="kernels/convolution.py",
    look=_tap,
    differences=_filter_differences,
)
