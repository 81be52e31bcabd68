"""What the verbs share: their options, and how options become networks and data."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.console import Screen
from rawcnn.files.atomic import regular_file

Model = Annotated[str, typer.Argument(help="A model's name: `rawcnn models` lists them.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable result on stdout, progress on stderr.")]
Seed = Annotated[int, typer.Option(help="Seed of every random number.", min=0, max=2**31 - 1)]
Data = Annotated[
    str, typer.Option(help="digits, cifar10, mnist, fashion_mnist, folder:PATH, records:PATH or tfds:NAME.")
]
WEIGHTS = ".safetensors, .npz, Keras's .h5 or .weights.h5, PyTorch's .pth"
Weights = Annotated[Path | None, typer.Option(help=f"A file of weights: {WEIGHTS}.")]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option("--weights", help=f"A file of weights: {WEIGHTS}; several, each with --weights, are an ensemble."),
]
Labels = Annotated[
    Path | None, typer.Option(help="A file of class names: one a line, or JSON as imagenet_class_index.json.")
]
Compile = Annotated[str, typer.Option(help="xla, graph, mixed, eager, or auto: by device and precision.")]
Precision = Annotated[str, typer.Option(help="float32 or bfloat16.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="How to train, by the model's own paper otherwise: alexnet2012, vgg2014, googlenet2014, "
        "bn_inception2015, inception_v3_2015, resnet2015, resnet2015_cifar, resnet2015_cifar110, resnext2016, "
        "senet2017, nasnet2017, onecycle or digits."
    ),
]
Size = Annotated[int | None, typer.Option(help="Side of the images in pixels.", min=1)]
Classes = Annotated[int | None, typer.Option(help="Number of classes.", min=1)]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="A model's own setting, as shortcut=A.")]
SkipUnreadable = Annotated[bool, typer.Option(help="Leave out image files that cannot be read.")]
Batch = Annotated[int, typer.Option(help="Images at a time.", min=1)]
Layer = Annotated[str, typer.Option(help="A layer's name: `rawcnn profile MODEL` lists them.")]
Images = Annotated[list[Path], typer.Argument(help="Image files.")]
Picture = Annotated[Path, typer.Option(help="The picture to write; figures and arrays go beside it.")]
Position = Annotated[str | None, typer.Option(help="ROW,COLUMN in the layer's map: one unit of the channel.")]


PICTURES = (".png", ".svg", ".pdf")


def writable(path: Path | None, *endings: str) -> None:
    """Told before the work: ValueError where `path` has none of these endings, or its folder cannot be made."""
    if path is None:
        return
    if endings and path.suffix not in endings:
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected {' or '.join(endings)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder of {path} cannot be made: {error.strerror}; name another path") from error
    if path.exists() and not path.is_dir():
        regular_file(path)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: it is a folder, or not ours to write; name another path")


def settings_of(options: Sequence[str] | None, what: str = "--option", such_as: str = "shortcut=A") -> dict[str, Any]:
    """["shortcut=A", "groups=1"] → {"shortcut": "A", "groups": 1}."""
    settings: dict[str, Any] = {}
    for option in options or ():
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise ValueError(f"{what} is {option!r}; expected NAME=VALUE, such as {such_as}")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def without_folders(word: str) -> str:
    """A word of a command as a record keeps it: of a path outside of this folder the last name, folder:/a/b → folder:b.

    Where things lie on a machine is nobody else's.
    """
    return re.sub(r"(^|[:=])(?:~|\.\.|)/(?:.*/)?(?=[^/]+/?$)", r"\1", word)


def check_finite(**options: float | None) -> None:
    """ValueError for an option that is no finite number."""
    for name, value in options.items():
        if value is not None and not isfinite(value):
            raise ValueError(f"--{name.replace('_', '-')} is {value}; expected a finite number")


def check_split(split: str) -> None:
    """Told before the data is read: ValueError for what is no split."""
    if split not in ("train", "test"):
        raise ValueError(f"--split is {split!r}; expected train or test")


def whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """The numbers of an option such as 256,384; None where it was left out."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} is {text!r}; expected whole numbers with commas between them") from None


def position_of(text: str | None) -> tuple[int, int] | None:
    """(row, column) of --position; None where it was left out."""
    numbers = whole_numbers("--position", text)
    if numbers is not None and len(numbers) != 2:
        raise ValueError(f"--position is {text!r}; expected ROW,COLUMN, such as 3,4")
    return None if numbers is None else (numbers[0], numbers[1])


def load_images(files: Sequence[Path], size: int):
    """Image files as float32 [B,size,size,3] in [0,1], scaled to cover the square and cropped."""
    import numpy as np

    from rawcnn.evaluation.predict import read_image

    return np.stack([read_image(file, size) for file in files]).astype(np.float32) / np.float32(255)


def network_for(model: str, weights: Path | None, *, classes=None, size=None, seed=0, precision="float32", options=()):
    """A network with the weights of a file, in the form that they are for.

    A file that rawcnn wrote says its classes, size and settings itself; those of a published one its names tell.
    """
    import rawcnn
    from rawcnn.weights import describe, load_weights
    from rawcnn.zoo import published_settings

    told = describe(weights) if weights else {}
    if told.get("network") not in (None, model):
        raise ValueError(f"{weights} holds the weights of {told['network']}, not of {model}")
    known = told.get("settings") or (published_settings(model, weights) if weights else {})
    settings = {**known, **settings_of(options)}
    settings |= {key: value for key, value in (("classes", classes), ("size", size)) if value is not None}
    network = rawcnn.create(model, seed=seed, precision=precision, **settings)
    if weights:
        load_weights(network, weights)
    network.labels = tuple(told["labels"]) if told.get("labels") else None
    return network


def load_data(screen: Screen, name: str, size: int | None, skip_unreadable: bool, memory: int | None = None):
    """The data set, with a bar, and a word about files that were left out."""
    from rawcnn.data import load

    with screen.bar(f"reading {name}") as told:
        data = load(name, size, skip_unreadable=skip_unreadable, memory=memory, progress=told)
    if data.skipped:
        screen.err.print(f"left out {len(data.skipped)} unreadable files, the first {data.skipped[0]}", markup=False)
    return data


def epoch_line(name: str, s: dict[str, float]) -> str:
    return (
        f"{name} epoch {s['epoch']:>3}  loss {s['train_loss']:.4f}  train {s['train_accuracy']:.2%}  "
        f"test {s['test_accuracy']:.2%}  rate {s['rate']:.4g}  {s['images_per_second']:.0f} images/s"
    )
