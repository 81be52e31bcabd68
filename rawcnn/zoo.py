"""Create a network from a model's name, and find the settings that published weights need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rawcnn.models import MODELS, find_model
from rawcnn.nn.arguments import Size, image_size, short_size, whole
from rawcnn.nn.network import Network
from rawcnn.weights.detect import creation_settings, detect_format, family_of
from rawcnn.weights.readers import open_tensors


def create(
    name: str,
    classes: int | None = None,
    seed: int = 0,
    *,
    size: Size | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    devices: Sequence[str] = (),
    **options,
) -> Network:
    """Create the network `name` with new variables.

    Args:
        name: A name in `rawcnn.MODELS`.
        classes: Number of classes. By default the model's own.
        seed: Seed of the initial values, 0 or more.
        size: Side of the images in pixels, or (height, width). By default the model's own.
        preprocessing: The network's first step, "none", "centered", "torch" or "caffe". By default the model's own.
        precision: "float32", or "bfloat16" arithmetic over float32 variables.
        devices: Devices that AlexNet's two halves are placed on.
        **options: Keywords of the model's function.

    Returns:
        A Network.

    Raises:
        ValueError: An argument is out of range, or the model has no such option.
    """
    model = find_model(name)
    classes = whole("classes", model.classes if classes is None else classes)
    size = short_size(image_size(model.size if size is None else size))
    seed = whole("seed", seed, least=0, most=None)
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
