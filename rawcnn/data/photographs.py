"""Photographs that scikit-learn and scikit-image ship. Their files are read; nothing is imported or downloaded.

scikit-image belongs to the extra `vgg`. Without it there are the two photographs of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from rawcnn.data.dataset import DataSet, Split
from rawcnn.data.decode import Item, read

PER_SIDE = 3  # the shorter side of a photograph is scaled to so many sides of a patch
STEP = 2 / 3  # distance of two patches, as a share of a patch's side


@dataclass(frozen=True)
class Photograph:
    """A photograph inside an installed package.

    Attributes:
        name: What it shows.
        package: The package that ships it.
        file: Its path inside the package.
        credit: Who took it and its license.
    """

    name: str
    package: str
    file: str
    credit: str

    @property
    def path(self) -> Path | None:
        """The file; None if the package or the file is missing."""
        spec = find_spec(self.package)  # looks for the package without running it
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0], self.file)
        return path if path.is_file() else None


_FLICKR = "CC BY 2.0, from scikit-learn"
_FREE = "public domain, from scikit-image"
PHOTOGRAPHS = (
    Photograph("temple", "sklearn", "datasets/images/china.jpg", f"danielbuechele, {_FLICKR}"),
    Photograph("flower", "sklearn", "datasets/images/flower.jpg", f"vultilion, {_FLICKR}"),
    Photograph("cat", "skimage", "data/chelsea.png", f"Stéfan van der Walt, {_FREE}"),
    Photograph("cup of coffee", "skimage", "data/coffee.png", f"Rachel Michetti, {_FREE}"),
    Photograph("astronaut", "skimage", "data/astronaut.png", f"NASA, {_FREE}"),
    Photograph("motorcycle", "skimage", "data/motorcycle_left.png", f"Middlebury, {_FREE}"),
    Photograph("rocket", "skimage", "data/rocket.jpg", f"SpaceX, {_FREE}"),
)


def installed() -> list[Photograph]:
    """Return the photographs whose packages are installed."""
    return [photograph for photograph in PHOTOGRAPHS if photograph.path]


def whole(photograph: Photograph, size: tuple[int, int]) -> np.ndarray:
    """Scale a photograph to cover a size (height, width) and crop it at the center: float32 [H,W,3] in [0,1]."""
    return read(_item(photograph), size).astype(np.float32) / np.float32(255)


def patches(photographs: Sequence[Photograph], side: int) -> DataSet:
    """Cut photographs into overlapping square patches.

    Each photograph is scaled so that its shorter side is PER_SIDE patches long.

    Args:
        photographs: The photographs; one or more.
        side: Height and width of a patch in pixels.

    Returns:
        A data set with the split "train". Its classes are the photographs.
    """
    images, labels = [], []
    for number, photograph in enumerate(photographs):
        found = _windows(_scaled(read(_item(photograph)), PER_SIDE * side), side)
        images += found
        labels += [number] * len(found)
    names = tuple(photograph.name for photograph in photographs)
    with tf.device("CPU:0"):
        split = Split(np.array(labels, np.int32), tf.constant(np.stack(images)))
    return DataSet("patches of photographs", names, (side, side), {"train": split})


def _scaled(pixels: np.ndarray, shorter: int) -> np.ndarray:
    """Scale pixels, uint8 [H,W,3], so that the shorter side has `shorter` pixels."""
    height, width = (round(side * shorter / min(pixels.shape[:2])) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX))


def _windows(pixels: np.ndarray, side: int) -> list[np.ndarray]:
    """Cut pixels [H,W,3] into patches [side,side,3], row by row; the first and last touch the edges."""
    tops, lefts = (
        np.linspace(0, length - side, 1 + round((length - side) / (STEP * side))).astype(int)
        for length in pixels.shape[:2]
    )
    return [pixels[top : top + side, left : left + side] for top in tops for left in lefts]


def _item(photograph: Photograph) -> Item:
    path = photograph.path
    if path is None:
        raise ValueError(
            f"the photograph of a {photograph.name} is in {photograph.package}, which is not installed: "
            "pip install 'rawcnn[vgg]'"
        )
    return Item("train", photograph.name, 0, path, f"install {photograph.package} again")
