"""Verbs that use trained networks: evaluate, predict."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    Batch,
    Classes,
    Compile,
    Data,
    Ensemble,
    Json,
    Labels,
    Model,
    Options,
    Precision,
    Seed,
    Size,
    SkipUnreadable,
    Weights,
    load_data,
    network_for,
    whole_numbers,
    writable,
)


def evaluate(
    model: Model,
    data: Data,
    weights: Ensemble = None,
    protocol: Annotated[
        str, typer.Option(help="Where to look: whole, center, 10crop, dense, multiscale or 144crop.")
    ] = "whole",
    scales: Annotated[str | None, typer.Option(help="Shorter sides, as 256,384; the paper's otherwise.")] = None,
    batch: Batch = 256,
    split: Annotated[str, typer.Option(help="train or test.")] = "test",
    output: Annotated[
        Path | None,
        typer.Option(help="A file for predictions, batch by batch; the same command goes on there."),
    ] = None,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Top-1 and top-5 error of a network, or of an ensemble, on a data set."""
    from rawcnn.evaluation.accuracy import evaluate as evaluate_network
    from rawcnn.evaluation.multicrop import evaluate_views, scales_for
    from rawcnn.files.journal import Journal

    screen = Screen(as_json)
    writable(output)
    build = partial(network_for, model, classes=classes, size=size, seed=seed, precision=precision, options=option)
    networks = [build(file) for file in weights] if weights else [build(None)]
    first, sides = networks[0], whole_numbers("--scales", scales)
    shown = ",".join(map(str, scales_for(first, protocol, sides)))
    files = ", ".join(map(str, weights)) if weights else "random"
    screen.settings(model=model, data=data, weights=files, split=split, batch=batch, seed=seed)
    screen.settings(size=first.input_size, classes=first.classes, precision=precision, compile=compile)
    screen.settings(protocol=protocol, scales=shown or None)
    images = load_data(screen, data, first.input_size, skip_unreadable)
    journal = None
    if output:
        about = {"networks": [n.digest() for n in networks], "data": images.digest(split), "split": split}
        journal = Journal(output, {**about, "protocol": protocol, "scales": shown, "batch": batch, "compile": compile})
        if journal.rows:
            screen.say(f"going on after {sum(len(row['labels']) for row in journal.rows)} images of {output}")
    with screen.bar("evaluating") as told:
        if protocol == "whole" and len(networks) == 1:
            result = evaluate_network(
                first, images, split, batch=batch, compile=compile, journal=journal, progress=told
            )
        else:
            look = partial(evaluate_views, protocol=protocol, scales=sides, batch=batch, compile=compile)
            result = look(networks, images, split, journal=journal, progress=told)
    screen.say(result.sentence())
    screen.emit({"protocol": protocol, "networks": len(networks), **result.summary()})


def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    weights: Weights = None,
    labels: Labels = None,
    top: Annotated[int, typer.Option(help="How many classes to show.", min=1)] = 5,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The classes that a network sees in image files."""
    from rawcnn.evaluation.class_names import read_labels
    from rawcnn.evaluation.predict import predict as predict_images

    screen = Screen(as_json)
    network = network_for(model, weights, classes=classes, size=size, seed=seed, options=option)
    shown = {"size": network.input_size, "classes": network.classes, "seed": seed}
    screen.settings(model=model, weights=weights or "random", labels=labels, **shown)
    if labels:
        network.labels = read_labels(labels)
    unreadable: list[str] = []
    with screen.bar("predicting") as told:
        results = predict_images(network, images, top=top, unreadable=unreadable, progress=told)
    for result in results:
        rows = [(g["label"], f"{g['probability']:.2%}") for g in result["guesses"]]
        screen.table(result["file"], ("class", "probability"), rows, text=("class",))
    screen.emit(results)
    if unreadable:
        raise ValueError("; ".join(unreadable))
