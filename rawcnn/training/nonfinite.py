"""Where a number stopped being one: the layer, and the largest activation before it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rawcnn.data.augmentation import augment
from rawcnn.nn.network import Network
from rawcnn.training.recipes import Recipe


def broken_variable(network: Network) -> str | None:
    """The first variable that holds numbers that are not finite.

    The loss of a broken network does not always tell: a fused ReLU may turn NaN into 0.
    """
    broken = (path for path, v in network.variables.items() if not tf.reduce_all(tf.math.is_finite(v)))
    return next(broken, None)


def broken_at(network: Network, recipe: Recipe, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> str:
    """Walk once more, eagerly, through the step that went wrong; the network is as it was before it → a sentence.

    Images [B,H,W,3] as the data set gives them, `seed` [2] the step's. It names the first variable or layer with
    numbers that are not finite, and the layer with the largest number before that.
    """
    if path := broken_variable(network):
        return f"{path} already holds numbers that are not finite"
    forward = network.forward(augment(images, seed, recipe.augmentation), train=True, seed=seed)
    largest, where = 0.0, "images"
    for name, activation in forward.activations.items():  # in the order of the walk
        values = np.abs(tf.cast(activation, tf.float32).numpy())
        if not np.isfinite(values).all():
            before = f"the largest before it is {largest:.3g}, of {where}"
            return f"{name} gives the first numbers that are not finite; {before}"
        if values.max() > largest:
            largest, where = float(values.max()), name
    return (
        f"all activations are finite, the largest is {largest:.3g}, of {where}: the loss or the gradients overflow, of "
        f"logits {_range(forward.logits)}"
    )


def _range(logits: tf.Tensor) -> str:
    return f"from {float(tf.reduce_min(logits)):.3g} to {float(tf.reduce_max(logits)):.3g}"
