"""The images that a network reads: one image as a batch, and larger images cropped to the network's size."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.nn.network import Network, check_images


def one_image(image) -> tf.Tensor:
    """Return an image [H,W,3] in [0,1] as a batch of one, float32 [1,H,W,3]; ValueError for anything else."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"the image has shape {image.shape}; expected one RGB image [H,W,3]")
    return images_in_range(image[None])


def images_in_range(images) -> tf.Tensor:
    """Return images as a float32 tensor [B,H,W,3]; ValueError unless there is one or more, with values in [0,1]."""
    images = check_images(images)
    if not len(images):
        raise ValueError("images are an empty batch; expected one image or more")
    check_in_range("images", images.numpy())
    return images


def check_in_range(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless all values are in [0,1]."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} have values that are not finite; expected [0,1]")
    low, high = float(np.min(values)), float(np.max(values))
    if low < 0 or high > 1:
        raise ValueError(f"{name} have values from {low:.9g} to {high:.9g}; expected [0,1]")


def size_read(network: Network, data: DataSet) -> tuple[int, int]:
    """Height and width at which the network reads a data set: its own size where the images are larger than that."""
    side = network.input_size
    return (side, side) if min(data.size) > side else data.size
