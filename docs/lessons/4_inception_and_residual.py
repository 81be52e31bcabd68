"""Lesson 4: an inception module and a residual block, forward and backward.

    inception   y = [1×1(x), 3×3(1×1(x)), 5×5(1×1(x)), 1×1(max-pool(x))]      each n×n is convolution, bias and ReLU
    residual    y = relu(x + F(x)),  F = convolution, batch norm, ReLU, convolution, batch norm

The module puts the channels of its branches side by side, so each branch gets its channels of g = ∂L/∂y back. The block
adds, so both sides get all of g. In both, ∂L/∂x is the sum of what the branches send back. Convolutions keep the size
(Szegedy et al. 2015, figure 2b; He et al. 2016, figure 2). Run `python docs/lessons/4_inception_and_residual.py`.
"""

import numpy as np

X = np.arange(1.0, 10).reshape(1, 3, 3, 1)  # 1 2 3 / 4 5 6 / 7 8 9
CENTER = (np.arange(9) == 4).reshape(1, 3, 3, 1)  # the gradient of the loss L = Σ_k y[1,1,k]
SIZES = {"1x1": 1, "3x3_reduce": 1, "3x3": 3, "5x5_reduce": 1, "5x5": 5, "pool": 1}  # "pool" is the projection after it
ONES = {name: (np.ones((n, n, 1, 1)), np.zeros(1)) for name, n in SIZES.items()}  # filters of ones, biases of zero
BLOCK = {"conv1": np.ones((3, 3, 1, 1)), "bn1": (1, 0), "conv2": np.ones((3, 3, 1, 1)), "bn2": (1, 0)}


def views(x, n, fill=0.0):
    """What each of the n² taps reads of the padded map, row by row: [B,H,W,C] → [n²,B,H,W,C]."""
    (_, height, width, _), r = x.shape, n // 2
    x = np.pad(x, ((0, 0), (r, r), (r, r), (0, 0)), constant_values=fill)
    return np.stack([x[:, i : i + height, j : j + width, :] for i, j in np.ndindex(n, n)])


def put_back(parts, n):
    """The reverse: each tap's part is added where the tap read: [n²,B,H,W,C] → [B,H,W,C]."""
    (_, batch, height, width, channels), r = parts.shape, n // 2
    x = np.zeros((batch, height + 2 * r, width + 2 * r, channels))
    for (i, j), part in zip(np.ndindex(n, n), parts, strict=True):
        x[:, i : i + height, j : j + width, :] += part
    return x[:, r : r + height, r : r + width, :]


def convolution(x, w):
    """x [B,H,W,C], w [n,n,C,K] → [B,H,W,K]: the view of tap t times its matrix [C,K], summed over the taps."""
    return np.einsum("tbhwc,tck->bhwk", views(x, len(w)), w.reshape(-1, *w.shape[2:]))


def convolution_gradients(x, w, g):
    """(∂L/∂x [B,H,W,C], ∂L/∂w [n,n,C,K]) for g [B,H,W,K]."""
    parts = np.einsum("bhwk,tck->tbhwc", g, w.reshape(-1, *w.shape[2:]))  # what each tap sends to its view
    return put_back(parts, len(w)), np.einsum("tbhwc,bhwk->tck", views(x, len(w)), g).reshape(w.shape)


def layer(x, parameters):
    """Convolution, bias and ReLU, with parameters (w [n,n,C,K], bias [K]): [B,H,W,C] → [B,H,W,K]."""
    return np.maximum(convolution(x, parameters[0]) + parameters[1], 0)


def layer_gradients(x, parameters, y, g):
    """(∂L/∂x, (∂L/∂w, ∂L/∂bias)) for y = layer(x, parameters): ReLU passes g where y > 0."""
    g = g * (y > 0)
    dx, dw = convolution_gradients(x, parameters[0], g)
    return dx, (dw, g.sum(axis=(0, 1, 2)))


def max_pool(x):
    """The largest pixel of each 3×3 window [B,H,W,C], and its switches [9,B,H,W,C]: True for the first that is it."""
    pixels = views(x, 3, fill=-np.inf)  # [9,B,H,W,C]
    return pixels.max(axis=0), np.arange(9).reshape(9, 1, 1, 1, 1) == pixels.argmax(axis=0)


def inception(x, v):
    """All activations by name; "y" is the output. At the first pixel 3×3 sums 1 + 2 + 4 + 5, and 5×5 all nine.

    >>> inception(X, ONES)["y"][0, 0, 0], inception(X, ONES)["y"][0, 1, 1]
    (array([ 1., 12., 45.,  5.]), array([ 5., 45., 45.,  9.]))
    """
    a = {"x": x, "1x1": layer(x, v["1x1"])}
    for name, reduce in (("3x3", "3x3_reduce"), ("5x5", "5x5_reduce")):
        a[reduce] = layer(x, v[reduce])  # fewer channels, so that the larger filter costs less
        a[name] = layer(a[reduce], v[name])
    a["pooled"], a["switches"] = max_pool(x)
    a["pool"] = layer(a["pooled"], v["pool"])
    return a | {"y": np.concatenate([a["1x1"], a["3x3"], a["5x5"], a["pool"]], axis=3)}  # [B,H,W,K₁+K₂+K₃+K₄]


def inception_gradients(a, v, g):
    """(∂L/∂x, the gradients of v by name). The center reads itself, all pixels twice, and the maximum, which is last.

    >>> inception_gradients(inception(X, ONES), ONES, np.repeat(CENTER, 4, axis=3))[0][0, :, :, 0]
    array([[2., 2., 2.],
           [2., 3., 2.],
           [2., 2., 3.]])
    """
    ends, d = np.cumsum([a[name].shape[3] for name in ("1x1", "3x3", "5x5")]), {}
    g_1x1, g_3x3, g_5x5, g_pool = np.split(g, ends, axis=3)
    dx, d["1x1"] = layer_gradients(a["x"], v["1x1"], a["1x1"], g_1x1)
    for name, reduce, g_branch in (("3x3", "3x3_reduce", g_3x3), ("5x5", "5x5_reduce", g_5x5)):
        g_reduce, d[name] = layer_gradients(a[reduce], v[name], a[name], g_branch)
        part, d[reduce] = layer_gradients(a["x"], v[reduce], a[reduce], g_reduce)
        dx = dx + part
    g_pooled, d["pool"] = layer_gradients(a["pooled"], v["pool"], a["pool"], g_pool)
    return dx + put_back(a["switches"] * g_pooled, 3), d


def batch_norm(x, parameters, epsilon=1e-5):
    """γ·x̂ + β, x̂ = (x − μ)/√(σ² + ε), with parameters (γ [C], β [C]). Lesson 2 derives the gradients."""
    return parameters[0] * (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + epsilon) + parameters[1]


def batch_norm_gradients(x, parameters, g, epsilon=1e-5):
    """(∂L/∂x, (∂L/∂γ, ∂L/∂β))."""
    normalized, m = batch_norm(x, (1, 0), epsilon), x[..., 0].size
    dgamma, dbeta = (g * normalized).sum(axis=(0, 1, 2)), g.sum(axis=(0, 1, 2))
    dx = parameters[0] / np.sqrt(x.var(axis=(0, 1, 2)) + epsilon) * (g - dbeta / m - normalized * dgamma / m)
    return dx, (dgamma, dbeta)


def residual_block(x, v):
    """All activations by name; "y" is the output. If γ = β = 0 in bn2, then F = 0, and the block is the identity.

    >>> residual_block(X, BLOCK | {"bn2": (0, 0)})["y"].ravel()
    array([1., 2., 3., 4., 5., 6., 7., 8., 9.])
    """
    a = {"x": x, "conv1": convolution(x, v["conv1"])}
    a["bn1"] = batch_norm(a["conv1"], v["bn1"])
    a["relu1"] = np.maximum(a["bn1"], 0)
    a["conv2"] = convolution(a["relu1"], v["conv2"])
    a["bn2"] = batch_norm(a["conv2"], v["bn2"])  # F(x)
    return a | {"y": np.maximum(x + a["bn2"], 0)}


def residual_block_gradients(a, v, g):
    """(∂L/∂x, the gradients of v by name): what F sends back, plus g itself through the shortcut."""
    shortcut, d = g * (a["y"] > 0), {}
    g, d["bn2"] = batch_norm_gradients(a["conv2"], v["bn2"], shortcut)
    g, d["conv2"] = convolution_gradients(a["relu1"], v["conv2"], g)
    g, d["bn1"] = batch_norm_gradients(a["conv1"], v["bn1"], g * (a["bn1"] > 0))
    g, d["conv1"] = convolution_gradients(a["x"], v["conv1"], g)
    return shortcut + g, d


def main():
    """Print the worked example and compare the gradients to x with central differences."""
    y, (dx, _) = inception(X, ONES)["y"], inception_gradients(inception(X, ONES), ONES, np.repeat(CENTER, 4, axis=3))
    print(f"x\n{X[0, :, :, 0]}\ny of the inception module at the center\n{y[0, 1, 1]}\n∂L/∂x\n{dx[0, :, :, 0]}")
    random, error = np.random.default_rng(0), 0
    x, step = random.standard_normal((2, 4, 4, 1)), 1e-6 * random.standard_normal((2, 4, 4, 1))
    for f, gradients, v in ((inception, inception_gradients, ONES), (residual_block, residual_block_gradients, BLOCK)):
        a, change = f(x, v), (f(x + step, v)["y"] - f(x - step, v)["y"]) / 2
        g = random.standard_normal(change.shape)
        error = max(error, abs((g * change).sum() - (gradients(a, v, g)[0] * step).sum()) / 1e-6)
    print(f"Largest difference from central differences: {error:.0e}")


if __name__ == "__main__":
    main()
