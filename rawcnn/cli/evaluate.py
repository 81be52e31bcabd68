"""`rawcnn evaluate` and `rawcnn predict`: use trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import (
    Batch,
    Classes,
    Compile,
    Data,
    Ensemble,
    Force,
    Head,
    Images,
    Json,
    Labels,
    Model,
    Options,
    Precision,
    Seed,
    Size,
    SkipUnreadable,
    Split,
    Weights,
)
from rawcnn.cli.parsing import parse_integers
from rawcnn.cli.request import DataRequest, NetworkRequest, Run, begin, match_data, named_classes


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(DataRequest):
    """The options of `rawcnn evaluate`."""

    ensemble: Sequence[Path] | None
    protocol: str
    scales: str | None
    batch: int
    compile: str
    force: bool

    needs_classifier = True

    @property
    def weight_files(self) -> Sequence[Path | None]:
        return self.ensemble or [None]

    def resolved_scales(self, network) -> str:
        """The shorter sides of the protocol, separated by commas; empty if it has none."""
        from rawcnn.evaluation.multicrop import scales_for

        return ",".join(map(str, scales_for(network, self.protocol, parse_integers("--scales", self.scales))))

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "data": self.data,
            "weights": ", ".join(map(str, self.ensemble)) if self.ensemble else "random",
            "split": self.split,
            "validation": self.validation,
            "batch": self.batch,
            "seed": self.seed,
            "size": network.input_size,
            "classes": network.classes,
            "precision": self.precision,
            "compile": self.compile,
            "protocol": self.protocol,
            "scales": self.resolved_scales(network) or None,
        }


def evaluate(
    model: Model,
    data: Data,
    weights: Ensemble = None,
    head: Head = "load",
    protocol: Annotated[
        str, typer.Option(help="Crops to average over: whole, center, 10crop, dense, multiscale or 144crop.")
    ] = "whole",
    scales: Annotated[
        str | None, typer.Option(help="Shorter sides of the scaled images, such as 256,384; default: the paper's.")
    ] = None,
    batch: Batch = 256,
    split: Split = "test",
    validation: Annotated[
        float | None,
        typer.Option(
            help="Share of the training images that is the validation split, as given to rawcnn train; for data "
            "without a validation split of its own."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File to which predictions are appended; an interrupted evaluation resumes from it."),
    ] = None,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    precision: Precision = "float32",
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    force: Force = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Measure a network's error on a data set.

    Several --weights form an ensemble. The result is the top-1 and the top-5 error with their 95 % intervals.
    """
    request = EvaluateRequest(
        model=model, data=data, ensemble=weights, protocol=protocol, scales=scales, batch=batch, split=split,
        output=output, size=size, classes=classes, option=option, precision=precision, compile=compile,
        skip_unreadable=skip_unreadable, force=force, as_json=as_json, seed=seed, head=head, validation=validation,
    )  # fmt: skip
    evaluate_networks(request)


def evaluate_networks(request: EvaluateRequest) -> None:
    """Evaluate and print one sentence."""
    from rawcnn.evaluation.accuracy import evaluate as evaluate_whole
    from rawcnn.evaluation.multicrop import evaluate_views

    with begin(request) as run:
        match_data(run, request.force)
        if request.protocol == "whole" and len(run.networks) == 1:
            evaluate = partial(evaluate_whole, run.network)
        else:
            scales = parse_integers("--scales", request.scales)
            evaluate = partial(evaluate_views, run.networks, protocol=request.protocol, scales=scales)
        journal = _open_journal(request, run)
        with run.screen.progress_bar("evaluating") as report:
            found = evaluate(
                run.data, split=request.split, batch=request.batch, compile=request.compile, force=request.force,
                journal=journal, progress=report,
            )  # fmt: skip
        run.screen.print(found.sentence())
        run.result = {"protocol": request.protocol, "networks": len(run.networks), **found.summary()}


def _open_journal(request: EvaluateRequest, run: Run):
    """Open the file of predictions, and print how many images it holds already; None without `--output`."""
    from rawcnn.files.journal import Journal

    if not request.output:
        return None
    metadata = {
        "networks": [network.digest() for network in run.networks],
        "data": run.data.digest(request.split),
        "split": request.split,
        "protocol": request.protocol,
        "scales": request.resolved_scales(run.network),
        "batch": request.batch,
        "compile": request.compile,
    }
    journal = Journal(request.output, metadata)
    if journal.rows:
        done = sum(len(row["labels"]) for row in journal.rows)
        run.screen.print(f"resuming after {done} images of {request.output}")
    return journal


@dataclass(frozen=True, kw_only=True)
class PredictRequest(NetworkRequest):
    """The options of `rawcnn predict`."""

    images: Sequence[Path]
    labels: Path | None
    top: int

    needs_classifier = True

    def load_network(self, weights: Path | None):
        return named_classes(super().load_network(weights), self.labels)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights or "random",
            "labels": self.labels,
            "size": network.input_size,
            "classes": network.classes,
            "seed": self.seed,
        }


def predict(
    model: Model,
    images: Images,
    weights: Weights = None,
    head: Head = "load",
    labels: Labels = None,
    top: Annotated[int, typer.Option(help="Number of classes to show per image.", min=1)] = 5,
    size: Size = None,
    classes: Classes = None,
    option: Options = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Predict the classes of image files."""
    request = PredictRequest(
        model=model, images=images, weights=weights, labels=labels, top=top, size=size, classes=classes, option=option,
        as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    predict_images(request)


def predict_images(request: PredictRequest) -> None:
    """Print a table of classes per image; raise ValueError at the end if an image could not be read."""
    from rawcnn.evaluation.predict import predict

    unreadable: list[str] = []
    with begin(request) as run:
        with run.screen.progress_bar("predicting") as report:
            results = predict(run.network, request.images, top=request.top, unreadable=unreadable, progress=report)
        for result in results:
            rows = [(guess["label"], f"{guess['probability']:.2%}") for guess in result["guesses"]]
            run.screen.print_table(result["file"], ("class", "probability"), rows, text=("class",))
        run.result = results
    if unreadable:
        raise ValueError("; ".join(unreadable))
