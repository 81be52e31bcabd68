"""Lesson 3: one training step of AlexNet's first stage, with momentum and weight decay.

AlexNet has four more convolutions and two more fully connected layers. The step, for a variable w with velocity v and
gradient g, is that of Krizhevsky et al. 2012, section 5. Run `python docs/lessons/3_alexnet_training_step.py`.

    network   images → conv1 (stride 4) → ReLU → LRN → pool1 (3×3, stride 2) → fully connected → softmax → loss
    step      v ← 0.9·v − 0.01·(g + 0.0005·w),  w ← w + v        weight decay of filters and weights, not of biases
"""

import numpy as np

RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
IMAGE = np.reshape([[1, 0, 2, 1, 0], [2, 1, 0, 1, 3], [0, 2, 1, 0, 1], [1, 0, 3, 2, 0], [0, 1, 1, 0, 2]], (1, 5, 5, 1))


def convolution(x, w, bias, s):
    """x [B,H,W,C], w [n,n,C,K], bias [K] → [B,H',W',K], with stride s and without padding.

    This filter sums the diagonal of each window, which is 3, 4, 1 or 5. The bias is −2.
    >>> convolution(IMAGE, np.eye(3).reshape(3, 3, 1, 1), bias=-2, s=2)[0, :, :, 0].tolist()
    [[1.0, 2.0], [-1.0, 3.0]]
    """
    n, (rows, columns) = len(w), ((length - len(w)) // s + 1 for length in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, w.shape[3]))
    for p, q in np.ndindex(rows, columns):
        y[:, p, q, :] = np.tensordot(x[:, p * s : p * s + n, q * s : q * s + n, :], w, axes=3) + bias  # [B,K]
    return y


def convolution_gradients(x, g, n, s):
    """g [B,H',W',K] → (∂L/∂w [n,n,C,K], ∂L/∂bias [K]). Images are not trained, so ∂L/∂x is not needed.

    With g = 1 for the first window, 2 for the last and 0 for the others, ∂L/∂w is the first window plus twice the last.
    >>> convolution_gradients(IMAGE, np.reshape([[1, 0], [0, 2]], (1, 2, 2, 1)), n=3, s=2)[0][:, :, 0, 0].tolist()
    [[3.0, 0.0, 4.0], [8.0, 5.0, 0.0], [2.0, 2.0, 5.0]]
    """
    dw = np.zeros((n, n, x.shape[3], g.shape[3]))
    for p, q in np.ndindex(g.shape[1:3]):
        dw += np.tensordot(x[:, p * s : p * s + n, q * s : q * s + n, :], g[:, p, q, :], axes=(0, 0))  # Σ over B
    return dw, g.sum(axis=(0, 1, 2))


def neighbor_sums(x):
    """Σ_j x_j over the channels |j − i| ≤ 2 that exist: [B,H,W,C] → [B,H,W,C]."""
    return np.stack([x[..., max(i - 2, 0) : i + 3].sum(axis=-1) for i in range(x.shape[-1])], axis=-1)


def lrn(x):
    """Section 3.3: y_i = x_i / s_i^¾ with s_i = 2 + 10⁻⁴·Σ_j x_j² over the channels |j − i| ≤ 2."""
    return x / (2 + 1e-4 * neighbor_sums(x**2)) ** 0.75


def lrn_gradient(x, g):
    """∂L/∂x [B,H,W,C]: x_j moves y_j, and the s_i of all its neighbors."""
    s = 2 + 1e-4 * neighbor_sums(x**2)
    return g / s**0.75 - 2 * 1e-4 * 0.75 * x * neighbor_sums(g * x / s**1.75)


def max_pool(x):
    """Section 3.4, overlapping pooling: the largest of each 3×3 window, with stride 2: [B,H,W,C] → [B,H',W',C]."""
    rows, columns = ((length - 3) // 2 + 1 for length in x.shape[1:3])
    y = [x[:, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3, :].max(axis=(1, 2)) for p, q in np.ndindex(rows, columns)]
    return np.stack(y, axis=1).reshape(len(x), rows, columns, -1)  # from H'·W' times [B,C]


def max_pool_gradient(x, g):
    """∂L/∂x [B,H,W,C]: each window sends its g to its first largest pixel."""
    dx = np.zeros(x.shape)
    for p, q in np.ndindex(g.shape[1:3]):
        window = np.s_[:, 2 * p : 2 * p + 3, 2 * q : 2 * q + 3, :]
        wins = np.arange(9)[:, None] == x[window].reshape(len(x), 9, -1).argmax(axis=1)[:, None, :]  # [B,9,C]
        dx[window] += (wins * g[:, p, q, None, :]).reshape(dx[window].shape)
    return dx


def cross_entropy(logits, labels):
    """Mean loss and its gradient (softmax − one-hot)/B: logits [B,K], labels [B] → (scalar, [B,K]).

    The logits ln 1 and ln 3 give the probabilities ¼ and ¾. The loss of class 1 is −ln ¾ = 0.287682.

    >>> [value.round(6).tolist() for value in cross_entropy(np.log([[1, 3]]), np.array([1]))]
    [0.287682, [[0.25, -0.25]]]
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p, one_hot = powers / powers.sum(axis=1, keepdims=True), np.eye(logits.shape[1])[labels]  # [B,K], [B,K]
    return -np.log((p * one_hot).sum(axis=1)).mean(), (p - one_hot) / len(labels)


def forward(v, images):
    """Variables v and images [B,227,227,3] → all activations by name."""
    a = {"images": images, "conv1": convolution(images, v["conv1/filters"], v["conv1/bias"], s=4)}  # [B,55,55,96]
    a["relu1"] = np.maximum(a["conv1"], 0)
    a["norm1"] = lrn(a["relu1"])
    a["pool1"] = max_pool(a["norm1"])  # [B,27,27,96]
    a["logits"] = a["pool1"].reshape(len(images), -1) @ v["fc/weights"] + v["fc/bias"]  # [B,classes]
    return a


def backward(v, a, g):
    """The layers in reverse order: activations a and g = ∂L/∂logits [B,classes] → the gradient of each variable."""
    gradients = {"fc/weights": a["pool1"].reshape(len(g), -1).T @ g, "fc/bias": g.sum(axis=0)}
    g = (g @ v["fc/weights"].T).reshape(a["pool1"].shape)  # ∂L/∂pool1
    g = max_pool_gradient(a["norm1"], g)  # ∂L/∂norm1
    g = lrn_gradient(a["relu1"], g)  # ∂L/∂relu1
    g = g * (a["conv1"] > 0)  # ∂L/∂conv1
    dw, dbias = convolution_gradients(a["images"], g, len(v["conv1/filters"]), s=4)
    return gradients | {"conv1/filters": dw, "conv1/bias": dbias}


def update(w, g, velocity, decay):
    """Momentum: (new w, new velocity). For w = 2, g = 3, v = 1: v becomes 0.9 − 0.01·(3 + 0.0005·2) = 0.86999.

    >>> [round(float(value), 8) for value in update(2, 3, velocity=1, decay=WEIGHT_DECAY)]
    [2.86999, 0.86999]
    """
    velocity = MOMENTUM * velocity - RATE * (g + decay * w)
    return w + velocity, velocity


def train_step(v, velocities, images, labels):
    """Change the variables and velocities by one step. Return the loss before it."""
    a = forward(v, images)
    loss, g = cross_entropy(a["logits"], labels)
    for path, gradient in backward(v, a, g).items():
        decay = 0 if path.endswith("bias") else WEIGHT_DECAY
        v[path], velocities[path] = update(v[path], gradient, velocities[path], decay)
    return loss


def main():
    """Compare the gradients with central differences, then train on horizontal and vertical stripes."""
    random, labels = np.random.default_rng(0), np.arange(8) % 2
    stripes = np.sin(np.arange(35) + random.uniform(0, 6, (8, 1)))[:, :, None, None] * np.ones((1, 1, 35, 3))
    images = np.where(labels[:, None, None, None], stripes, stripes.swapaxes(1, 2))  # [8,35,35,3]
    shapes = {"conv1/filters": (11, 11, 3, 4), "conv1/bias": 4, "fc/weights": (36, 2), "fc/bias": 2}
    v = {path: 0.1 * random.standard_normal(shape) for path, shape in shapes.items()}
    a, error, velocities = forward(v, images), 0, dict.fromkeys(v, 0)
    for path, gradient in backward(v, a, cross_entropy(a["logits"], labels)[1]).items():
        step = 1e-6 * random.standard_normal(gradient.shape)  # in a random direction
        logits = [forward(v | {path: v[path] + s}, images)["logits"] for s in (step, -step)]
        above, below = (cross_entropy(z, labels)[0] for z in logits)
        error = max(error, abs((above - below) / 2 - (gradient * step).sum()) / 1e-6)
    print("w = 2, g = 3, v = 1: after a step, w = {:.5f} and v = {:.5f}".format(*update(2, 3, 1, WEIGHT_DECAY)))
    print(f"Largest difference from central differences: {error:.0e}")
    for number in range(1, 21):
        print(f"step {number}: loss {train_step(v, velocities, images, labels):.4f}")


if __name__ == "__main__":
    main()
