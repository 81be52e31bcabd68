"""The images that a network reads: checked, one image as a batch, and larger images cropped to the network's size."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from rawcnn.data import DataSet
from rawcnn.nn.arguments import number_array
from rawcnn.nn.network import Network, check_images

ROUNDING = 1e-5  # by which pixels may leave [0,1], as after resampling in float32


def unit_images(images, what: str = "images") -> tf.Tensor:
    """Return a batch of images in [0,1] as float32 [B,H,W,3].

    Args:
        images: [B,H,W,3], float RGB.
        what: what they are, for the message.

    Raises:
        ValueError: for another shape or type, no images, values that are not finite, and values outside [0,1].
    """
    images = check_images(images)
    if not len(images):
        raise ValueError(f"there are no {what}; expected one or more")
    check_pixels(images.numpy(), what)
    return images


def check_pixels(values: np.ndarray, what: str) -> None:
    """Raise ValueError for values that are not finite or that leave [0,1] by more than rounding."""
    if not np.isfinite(values).all():
        bad = np.count_nonzero(~np.isfinite(values))
        raise ValueError(
            f"the {what} have values that are not finite, {bad} of {values.size}; expected numbers in [0,1]"
        )
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    if low < -ROUNDING or high > 1 + ROUNDING:
        remedy = ": divide bytes by 255" if high > 2 else ""
        raise ValueError(f"the {what} have values from {low:.7g} to {high:.7g}; expected numbers in [0,1]{remedy}")


def one_image(image) -> tf.Tensor:
    """Return an image [H,W,3] in [0,1] as a batch of one, float32 [1,H,W,3]; ValueError for anything else."""
    image = number_array("the image", image, "one RGB image [H,W,3]")
    if image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise ValueError(f"the image has shape {image.shape}; expected one RGB image [H,W,3]")
    return unit_images(image[None], "pixels of the image")


def check_in_range(name: str, values: np.ndarray) -> None:
    """Raise ValueError unless all values are in [0,1]."""
    if not np.isfinite(values).all():
        raise ValueError(f"{name} have values that are not finite; expected [0,1]")
    low, high = float(np.min(values)), float(np.max(values))
    if low < 0 or high > 1:
        raise ValueError(f"{name} have values from {low:.9g} to {high:.9g}; expected [0,1]")


def size_read(network: Network, data: DataSet) -> tuple[int, int]:
    """Height and width at which the network reads a data set: its own size where the images are larger than that."""
    height, width = network.image_size
    return (height, width) if data.size[0] > height and data.size[1] > width else data.size
