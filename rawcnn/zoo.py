"""Create a network from a model's name, with new variables or with the weights of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from rawcnn.models import MODELS, find_model
from rawcnn.nn.arguments import Size, image_size, plain_values, short_size, whole_number
from rawcnn.nn.network import Network
from rawcnn.weights import describe, load_weights
from rawcnn.weights.detect import creation_settings, detect_format, family_of
from rawcnn.weights.readers import open_tensors

RESERVED = {"name", "seed", "precision", "devices", "weights", "head"}  # arguments of `create` that are not settings


def create(
    name: str,
    classes: int | None = None,
    seed: int = 0,
    *,
    size: Size | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    devices: Sequence[str] = (),
    weights: str | Path | None = None,
    head: str = "load",
    **options,
) -> Network:
    """Create the network `name` with new variables, or with the weights of a file.

    Args:
        name: A name in `rawcnn.MODELS`.
        classes: Number of classes. By default the model's own.
        seed: Seed of the initial values, 0 or more.
        size: Side of the images in pixels, or (height, width). By default the model's own.
        preprocessing: The network's first step, "none", "centered", "torch" or "caffe". By default the model's own.
        precision: "float32", "bfloat16" arithmetic over float32 variables, or "float64" for both.
        devices: Devices that AlexNet's two halves are placed on.
        weights: A weight file of any kind that `load_weights` reads. Its classes, size, options, preprocessing and
            class names are used, if the file has them and no argument differs.
        head: "load", or "skip" for all weights but the classifier's, as in `load_weights`.
        **options: Keywords of the model's function.

    Returns:
        A Network.

    Raises:
        ValueError: An argument is out of range, the model has no such option, or the file does not fit.
    """
    if not isinstance(weights, str | PathLike | None):
        raise ValueError(f"weights is {weights!r}; expected the path of a weight file, or None")
    if weights is not None:
        settings = {"classes": classes, "size": size, "preprocessing": preprocessing, **options}
        return _with_weights(name, Path(weights), head, settings, seed=seed, precision=precision, devices=devices)
    model, options = find_model(name), plain_values(options)
    classes = whole_number("classes", model.classes if classes is None else classes)
    size = short_size(image_size(model.size if size is None else size))
    seed = whole_number("seed", seed, least=0, most=None)
    reads = "none" if options.get("discretize", "none") != "none" else model.preprocessing  # levels divide [0,1]
    preprocessing = reads if preprocessing is None else preprocessing
    if options.get("discretize", "none") != "none" and preprocessing != "none":
        raise ValueError(
            f'preprocessing is {preprocessing!r}; expected "none", because discretize= reads pixels in [0,1]'
        )
    settings = {"classes": classes, "size": size, "preprocessing": preprocessing, **model.options, **options}
    return Network(
        name,
        model.configured(classes, **options),
        size=size,
        classes=classes,
        seed=seed,
        preprocessing=preprocessing,
        precision=precision,
        devices=devices,
        settings=settings,
    )


def _with_weights(name: str, path: Path, head: str, settings: Mapping, **others) -> Network:
    """Create a network and load a file. The file's settings hold where `settings` has none or None."""
    metadata = describe(path)
    if metadata.get("network") not in (None, name):
        raise ValueError(f"{path} holds the weights of {metadata['network']}, not of {name}")
    stored = metadata.get("settings") or published_settings(name, path)
    if reserved := RESERVED & stored.keys():
        raise ValueError(
            f"{path} has metadata about its network that rawcnn never writes: {', '.join(sorted(reserved))}"
        )
    stored = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    network = create(name, **{**stored, **{key: v for key, v in settings.items() if v is not None}}, **others)
    load_weights(network, path, head=head)
    if metadata.get("labels") and head == "load":
        network.labels = tuple(metadata["labels"])
    return network


def published_settings(model: str, path: str | Path) -> dict[str, object]:
    """Return the arguments of `create` that reproduce the network that a weight file was published with.

    Args:
        model: The model's name.
        path: A file of published weights.

    Returns:
        Keyword arguments, such as version, padding, preprocessing and heads; {} if the file's names do not show them.

    Raises:
        ValueError: The file cannot be read.
    """
    family = family_of(MODELS[model].function) if model in MODELS else ""
    with open_tensors(path) as tensors:
        return creation_settings(detect_format(tensors), model, family, tensors)
