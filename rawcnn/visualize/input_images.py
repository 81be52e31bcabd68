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
    images = check_images(image[None])
    if not np.isfinite(image).all():
        raise ValueError("the image has values that are not finite; expected numbers in [0,1]")
    return images


def size_read(network: Network, data: DataSet) -> tuple[int, int]:
    """Height and width at which the network reads a data set: its own size where the images are larger than that."""
    side = network.input_size
    return (side, side) if min(data.size) > side else data.size
