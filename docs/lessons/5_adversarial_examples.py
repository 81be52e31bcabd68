"""Lesson 5: adversarial examples for a two-layer network, by FGSM and PGD.

    network   z = relu(x·W₁ + b₁)·W₂ + b₂,   J = −log softmax(z)[label]
    FGSM      x + ε·sign(∂J/∂x)                                     Goodfellow, Shlens, Szegedy 2015, section 4
    PGD       repeat  x ← project(x + α·steepest(∂J/∂x))            Madry et al. 2018, section 2.1

An attack keeps the weights and changes the image x [B,H,W,C], whose pixels lie in [0,1]. The backward pass is that of
training, continued to the image. `project` moves the image back to a distance of at most ε from the original: the
largest change of a pixel (L∞), or the length of the change (L2). Run `python docs/lessons/5_adversarial_examples.py`.

The example has images of 3×3 pixels and the classes "left" and "right". One hidden unit sums the left column, the other
the right column, and W₂ multiplies the sums by 5. The image is brighter on the left, so the network says "left".
"""

import numpy as np

LEFT, RIGHT = 0, 1
X = np.reshape([[0.6, 0.5, 0.4]] * 3, (1, 3, 3, 1))  # three equal rows
COLUMNS = np.reshape([[[1, 0], [0, 0], [0, 1]]] * 3, (9, 2))  # pixel → its weights to the two hidden units
V = {"w1": COLUMNS, "b1": np.zeros(2), "w2": np.array([[5, 0], [0, 5]]), "b2": np.zeros(2)}


def forward(v, x):
    """Images [B,H,W,C] → (hidden units before ReLU [B,N], logits [B,K]).

    The columns sum to 3·0.6 = 1.8 and 3·0.4 = 1.2, so the logits are 9 and 6.

    >>> [value.round(6).tolist() for value in forward(V, X)]
    [[[1.8, 1.2]], [[9.0, 6.0]]]
    """
    hidden = x.reshape(len(x), -1) @ v["w1"] + v["b1"]  # [B,H·W·C]·[H·W·C,N] = [B,N]
    return hidden, np.maximum(hidden, 0) @ v["w2"] + v["b2"]  # [B,N]·[N,K] = [B,K]


def softmax(logits):
    """[B,K] → probabilities [B,K]; the largest logit is subtracted first, so that exp does not overflow.

    >>> softmax(np.log([[1, 3]])).round(6).tolist()
    [[0.25, 0.75]]
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def loss(v, x, labels):
    """J of each image: [B]."""
    return -np.log(softmax(forward(v, x)[1])[np.arange(len(x)), labels])


def input_gradient(v, x, labels):
    """∂J/∂x [B,H,W,C]: the layers in reverse order. J of an image does not depend on the other images.

    Here softmax(z) = (0.9526, 0.0474), so ∂J/∂z = softmax(z) − (1, 0) = (−0.0474, 0.0474). W₂ multiplies this by 5.
    ReLU passes it, because both sums are positive. W₁ sends −0.237 to the left column and 0.237 to the right column.

    >>> input_gradient(V, X, np.array([LEFT]))[0, :, :, 0].round(3)
    array([[-0.237,  0.   ,  0.237],
           [-0.237,  0.   ,  0.237],
           [-0.237,  0.   ,  0.237]])
    """
    hidden, logits = forward(v, x)
    g = softmax(logits) - np.eye(logits.shape[1])[labels]  # ∂J/∂z [B,K]
    g = (g @ v["w2"].T) * (hidden > 0)  # ∂J/∂hidden [B,N]
    return (g @ v["w1"].T).reshape(x.shape)  # ∂J/∂x


def fgsm(v, x, labels, epsilon):
    """One step of ε along the sign of the gradient, clipped to [0,1]. A target class takes the labels' place with −ε.

    Every pixel moves by ε or not at all: the left column darkens, the right column brightens. The logits are 6 and 9.

    >>> attacked = fgsm(V, X, np.array([LEFT]), epsilon=0.2)
    >>> attacked[0, 0, :, 0].round(6), forward(V, attacked)[1].round(6)
    (array([0.4, 0.5, 0.6]), array([[6., 9.]]))
    """
    return np.clip(x + epsilon * np.sign(input_gradient(v, x, labels)), 0, 1)


def length(x):
    """The length of each image as a vector: [B,H,W,C] → [B,1,1,1]."""
    return np.sqrt((x**2).sum(axis=(1, 2, 3), keepdims=True))


def steepest(g, norm):
    """The step of length 1 that raises J most: sign(g) for "linf", g/‖g‖ for "l2".

    >>> g = np.reshape([3.0, -4.0], (1, 1, 2, 1))
    >>> steepest(g, "linf").ravel(), steepest(g, "l2").ravel()
    (array([ 1., -1.]), array([ 0.6, -0.8]))
    """
    return np.sign(g) if norm == "linf" else g / np.maximum(length(g), 1e-30)


def project(x, center, epsilon, norm):
    """The nearest image to x that is at most ε from `center`: clip each pixel's change, or shorten the whole change.

    >>> center, x = np.reshape([2, 2], (1, 1, 2, 1)), np.reshape([5, 6], (1, 1, 2, 1))  # the change is (3, 4), length 5
    >>> project(x, center, 1, "linf").ravel(), project(x, center, 1, "l2").ravel()
    (array([3, 3]), array([2.6, 2.8]))
    """
    change = x - center
    if norm == "linf":
        return center + np.clip(change, -epsilon, epsilon)
    return center + change * np.minimum(1, epsilon / np.maximum(length(change), 1e-30))


def pgd(v, x, labels, epsilon, alpha, steps, norm="linf", start=None):
    """Steps of α along the steepest direction, projected to ε around x and clipped to [0,1].

    Madry et al. begin at a random image within ε of x, `start`; the default is x. With α = 0.15 the left column becomes
    0.45, then 0.3, which is projected to 0.4.

    >>> for steps in 1, 2, 3:
    ...     print(pgd(V, X, np.array([LEFT]), epsilon=0.2, alpha=0.15, steps=steps)[0, 0, :, 0].round(6))
    [0.45 0.5  0.55]
    [0.4 0.5 0.6]
    [0.4 0.5 0.6]
    """
    attacked = x if start is None else start
    for _ in range(steps):
        attacked = attacked + alpha * steepest(input_gradient(v, attacked, labels), norm)
        attacked = np.clip(project(attacked, x, epsilon, norm), 0, 1)
    return attacked


def main():
    """Print the worked example and compare its gradient with central differences."""
    labels = np.array([LEFT])
    g = input_gradient(V, X, labels)
    one_step = fgsm(V, X, labels, epsilon=0.2)
    many_steps = pgd(V, X, labels, epsilon=0.3, alpha=0.1, steps=5, norm="l2")
    print(f"∂J/∂x\n{g[0, :, :, 0].round(3)}")
    for name, x in (("x", X), ("FGSM, ε = 0.2", one_step), ("PGD in L2, 5 steps, ε = 0.3", many_steps)):
        logits, j = forward(V, x)[1][0], loss(V, x, labels)[0]
        print(f"{name}\n{x[0, :, :, 0].round(3)}\nlogits of left and right {logits.round(3)}, J = {j:.3f}")
    steps = 1e-5 * np.eye(9).reshape(9, 3, 3, 1)  # one for each pixel
    differences = [(loss(V, X + step, labels) - loss(V, X - step, labels))[0] / 2e-5 for step in steps]
    print(f"Largest difference from central differences: {abs(g.ravel() - differences).max():.0e}")


if __name__ == "__main__":
    main()
