"""Gradient norms through depth: plain against residual networks, before training.

Batch normalization keeps activations at one scale, so gradients do not vanish (He et al. 2016, section 4.1). In a plain
network it lets them grow from each layer to the one before it instead (Yang et al. 2019, "A Mean Field Theory of Batch
Normalization"). A shortcut passes the gradient on as it is, so in a residual network it grows much less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.nn.execution import choose, compiled
from rawcnn.training.microscope import layers_of, observe
from rawcnn.training.plain_vs_residual import networks
from rawcnn.training.recipes import RECIPES, Recipe
from rawcnn.training.step import State
from rawcnn.training.suitable import check_sizes
from rawcnn.zoo import create

Norms = dict[str, float]  # path of filters or weights → norm of the gradient, in the order of the forward pass


def gradient_norms(
    data: DataSet,
    *,
    depths: Sequence[int] = (20, 56),
    recipe: Recipe = RECIPES["resnet2015_cifar"],
    seed: int = 0,
    compile: str = "auto",
    progress: Callable[[int, int, str], object] | None = None,
) -> dict[str, Norms]:
    """Measure the networks of figure 6, with new variables, on one batch of training images.

    Args:
        data: The data set.
        depths: The depths to compare.
        recipe: The recipe: batch, augmentation, loss.
        seed: The seed of the variables and of the batch.
        compile: How the measurement runs.
        progress: Called as progress(done, total, network).

    Returns:
        Name of the network → norm of the loss's gradient to the filters or weights of each layer.

    Raises:
        ValueError: There are fewer training images than a batch, or the networks do not fit the images.
    """
    images, labels = next(iter(data.batches("train", recipe.batch, seed=seed, drop_remainder=True)))
    found, names = {}, networks(depths)
    for number, name in enumerate(names):
        network = create(name, classes=len(data.labels), seed=seed, size=data.size)
        check_sizes(network, recipe, data)
        state, choice = State.begin(network, recipe), choose(compile)

        def measure(*batch, network=network, state=state):
            return observe(network, recipe, state, *batch)

        values = compiled(measure, choice)(images, labels, tf.constant([seed, 0]), tf.constant(recipe.rate))
        norms = values["weight_gradient_norm"].numpy().tolist()
        found[name] = dict(zip(layers_of(network).weights, norms, strict=True))
        if progress:
            progress(number + 1, len(names), name)
    return found


def first_over_last(norms: Mapping[str, float]) -> float:
    """Return the gradient norm of the first convolution divided by that of the last; without two, of the layers."""
    values = [norm for path, norm in norms.items() if path.endswith("/filters")]
    first, *_, last = values if len(values) > 1 else [*norms.values(), *norms.values()]
    return first / last if last else float("nan")
