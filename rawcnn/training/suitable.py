"""Check, before any work, that a network can be trained by a recipe on a data set."""

from __future__ import annotations

import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.data.augmentation import augment
from rawcnn.data.dataset import check_data_set
from rawcnn.nn.network import Network
from rawcnn.nn.trace import symbolic_trace
from rawcnn.training.recipes import Recipe


def check_splits(data: DataSet) -> None:
    """Raise ValueError if the data has no training images or no test images, or is no data set."""
    check_data_set(data)
    for split, name in (("train", "training"), ("test", "test")):
        if split not in data.splits or not data.count(split):
            raise ValueError(f"{data.name} has no {name} images; a training needs training images and test images")


def check_sizes(network: Network, recipe: Recipe, data: DataSet) -> None:
    """Check the sizes of the images, as the steps and the evaluations see them.

    Raises:
        ValueError: The augmentation's crop does not fit into the images, or the network's layers do not fit them.
    """
    with tf.Graph().as_default():
        images = tf.raw_ops.Placeholder(dtype=tf.float32, shape=(1, *data.size, 3))
        trained = augment(images, tf.constant([0, 0]), recipe.augmentation).shape[1:3]
    sides = network.image_size
    evaluated = sides if min(data.size) > min(sides) else data.size  # larger images are cropped
    for height, width in {tuple(trained), tuple(evaluated)} - {sides}:
        if reason := _misfit(network, (1, height, width, 3)):
            raise ValueError(
                f"{network.name} was built for images of {sides[0]}×{sides[1]} pixels; those of {data.name} have "
                f"{height}×{width}, and {reason}; load them with size={network.input_size}, or "
                "give the network their size"
            )


def _misfit(network: Network, shape: tuple[int, ...]) -> str | None:
    """Why the layers do not fit images of this shape; None if they do."""
    try:
        parameters = symbolic_trace(network.model, shape).parameters
    except ValueError as error:
        return f"a layer does not fit them ({error})"
    wrong = [path for path, p in parameters.items() if p.shape != network.parameters[path].shape]
    return f"{wrong[0]} would have the shape {list(parameters[wrong[0]].shape)}" if wrong else None
