"""`rawcnn attack`: attack a network with each of the lecture's attacks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    AMOUNT,
    DATA,
    Batch,
    Classes,
    Compile,
    Force,
    Head,
    Json,
    Model,
    Options,
    Seed,
    Size,
    SkipUnreadable,
    Weights,
)
from rawcnn.cli.parsing import parse_amount, parse_settings
from rawcnn.cli.request import DataRequest, NetworkRequest, Run, begin, match_data

NAMES = "fgsm, bim, mi_fgsm, pgd, smallest, deepfool, logit_pga, spatial, patch, substitute or evolve"


@dataclass(frozen=True, kw_only=True)
class AttackRequest(DataRequest):
    """The options of `rawcnn attack` for every attack but evolve."""

    name: str
    epsilons: Sequence[float] | None
    attack_settings: dict[str, Any]
    target: int | None
    count: int | None
    batch: int
    folder: Path
    compile: str
    force: bool

    needs_classifier = True

    @property
    def checked_file(self) -> Path:
        return self.folder / "attack.json"

    def resolved_epsilons(self) -> list[float]:
        from rawcnn.attacks.catalogue import find_attack

        return list(self.epsilons or find_attack(self.name, self.attack_settings).epsilons)

    def check(self) -> None:
        from rawcnn.attacks.catalogue import checked, find_attack

        find_attack(self.name, self.attack_settings).check(self.resolved_epsilons())
        checked(self.name, self.attack_settings, self.target)
        if not self.data:
            raise ValueError(f"{self.name} attacks images; give --data, such as digits or folder:PATH")
        super().check()

    def check_network(self, network: Any) -> None:
        from rawcnn.attacks.checks import check_classes

        if self.target is not None:
            check_classes("target", [self.target], 1, network.classes)

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "attack": self.name,
            "model": self.model,
            "data": self.data,
            "size": self.size,
            "weights": self.weights or "random",
            "epsilons": self.resolved_epsilons(),
            "seed": self.seed,
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {
            **self.attack_settings,  # unrecorded: a setting of `smallest` is named attack
            "target": self.target,
            "images": self.count or "all",
            "batch": self.batch,
            "compile": self.compile,
            "output": self.folder,
        }


@dataclass(frozen=True, kw_only=True)
class EvolveRequest(NetworkRequest):
    """The options of `rawcnn attack evolve`, which starts without images."""

    attack_settings: dict[str, Any]
    folder: Path
    compile: str

    needs_classifier = True

    @property
    def checked_file(self) -> Path:
        return self.folder / "attack.json"

    @property
    def encoding(self) -> str:
        return self.attack_settings.get("encoding", "direct")

    def method(self):
        """Return the function that makes the images: gradient ascent, or evolution with the encoding."""
        from rawcnn.attacks import ascend, evolve

        return ascend if self.encoding == "gradient" else evolve

    def method_settings(self) -> dict[str, Any]:
        """Return the settings of `method`; gradient ascent has no encoding."""
        settings = self.attack_settings.items()
        return {name: value for name, value in settings if (name, value) != ("encoding", "gradient")}

    def check(self) -> None:
        from rawcnn.attacks.catalogue import check_by_calling, keywords
        from rawcnn.attacks.evolution import ENCODINGS

        super().check()
        encodings = (*ENCODINGS, "gradient")
        if self.encoding not in encodings:
            raise ValueError(f"encoding is {self.encoding!r}; expected one of {', '.join(encodings)}")
        known = keywords(self.method())
        if unknown := [name for name in self.method_settings() if name not in known]:
            listed = ", ".join(f"{name}={value!r}" for name, value in known.items())
            raise ValueError(
                f"evolve has no setting {', '.join(unknown)}; with encoding={self.encoding} they are {listed}"
            )
        check_by_calling(self.method(), **self.method_settings())

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "attack": "evolve",
            "model": self.model,
            "size": self.size,
            "weights": self.weights or "random",
            "seed": self.seed,
        }

    def unrecorded_settings(self) -> dict[str, Any]:
        return {**self.attack_settings, "output": self.folder}


def attack(
    name: Annotated[str, typer.Argument(help=f"{NAMES}.")],
    model: Model,
    data: Annotated[str | None, typer.Option(help=f"Data set; every attack but evolve needs one: {DATA}.")] = None,
    weights: Weights = None,
    head: Head = "load",
    epsilon: Annotated[
        list[float] | None,
        typer.Option(
            help="Largest change of a pixel in [0, 1], such as 8/255; for spatial a share of the largest rotation and "
            "translation, for patch a share of the image's area. Repeatable.",
            parser=parse_amount,
            metavar=AMOUNT,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps of an iterative attack.", min=1)] = None,
    target: Annotated[int | None, typer.Option(help="Class to reach; default: any wrong class.", min=0)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            help="Setting of the attack as NAME=VALUE, such as step=2/255. An unknown name prints the list. "
            "Repeatable.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Number of test images, drawn at random; default: all.", min=1)
    ] = None,
    batch: Batch = 128,
    classes: Classes = None,
    size: Size = None,
    force: Force = False,
    output: Annotated[Path | None, typer.Option(help="Folder to write; default: attack/NAME.")] = None,
    option: Options = None,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Attack a network with adversarial examples.

    The folder gets accuracy against epsilon, a sheet of examples and the adversarial images. An interrupted attack
    resumes.
    """
    settings = parse_settings(set_, "--set", "norm=l2") | ({} if steps is None else {"steps": steps})
    folder = output or Path("attack") / name
    if name == "evolve":
        _check_left_out({"--data": data, "--epsilon": epsilon, "--target": target, "--count": count})
        _check_left_out({"--force": force or None})
        evolving = EvolveRequest(
            model=model, weights=weights, classes=classes, size=size, option=option, attack_settings=settings,
            folder=folder, compile=compile, as_json=as_json, seed=seed, head=head,
        )  # fmt: skip
        evolve_images(evolving)
        return
    request = AttackRequest(
        force=force,
        name=name, model=model, data=data or "", weights=weights, epsilons=epsilon, attack_settings=settings,
        target=target, count=count, batch=batch, classes=classes, size=size, folder=folder, option=option,
        compile=compile, skip_unreadable=skip_unreadable, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    attack_data(request)


def _check_left_out(options: dict[str, object]) -> None:
    """Raise ValueError for options that evolve does not have."""
    if wrong := [option for option, value in options.items() if value is not None]:
        raise ValueError(f"evolve starts without images and aims at every class; leave out {', '.join(wrong)}")


def attack_data(request: AttackRequest) -> None:
    """Attack the test images at each epsilon, and write the record, the curve and the examples."""
    from rawcnn.attacks import study
    from rawcnn.files.atomic import atomic_files

    with begin(request) as run:
        match_data(run, request.force)
        with run.screen.progress_bar("attacking") as report:
            found = study(
                request.name, run.network, run.data, request.resolved_epsilons(), target=request.target,
                count=request.count, batch=request.batch, seed=request.seed, compile=request.compile,
                journal=request.folder / "outcomes.jsonl", progress=report, tell=run.screen.note,
                settings=request.attack_settings,
            )  # fmt: skip
        record = _record(request, found)
        with atomic_files(request.folder) as folder:
            _write_files(found, run.network.labels or run.data.labels, folder, record)
            files = os.listdir(folder)
        _print_rows(found, run.screen)
        if (median := found.rows[0].get("median_distance")) is not None:
            run.screen.print(f"half of the fooled images needed an epsilon of at most {median:.3g}")
        run.screen.print(_wrote(request.folder, files))
        run.result = record


def _record(request: AttackRequest, found) -> dict[str, Any]:
    """Return the settings and figures of a study."""
    return {
        "attack": request.name,
        "model": request.model,
        "weights": request.weights.name if request.weights else None,
        "options": list(request.option or ()),
        "data": request.data,
        "size": found.examples.images.shape[1:3],
        "seed": request.seed,
        **found.settings,
        "epsilon_is": found.unit,
        "images": found.rows[0]["images"],
        "images_drawn": request.count is not None,
        "accuracy_against_epsilon": found.rows,
    }


def _print_rows(found, screen: Screen) -> None:
    """Print one row per epsilon."""
    rows = [
        (
            f"{row['epsilon']:.4f}",
            f"{row['accuracy_after']:.2%}",
            "–" if row["success_rate"] is None else f"{row['success_rate']:.2%}",
            row["images"],
            f"{row['mean_l2']:.3f}",
        )
        for row in found.rows
    ]
    screen.print_table(
        f"{found.name}; epsilon is the {found.unit}", ("epsilon", "accuracy", "success", "images", "mean L2"), rows
    )


def _write_files(found, labels: Sequence[str], folder: Path, record: dict[str, Any]) -> None:
    """Write the files of a study; what a patch or a substitute reports is added to the record."""
    import numpy as np
    from PIL import Image

    from rawcnn.attacks import Patch, Substitute
    from rawcnn.plots.figures import accuracy_curve, examples, save
    from rawcnn.weights import save_weights

    result = found.examples
    save(accuracy_curve(found.rows, found.name, found.unit), folder / "curve.png")
    save(examples(result, labels), folder / "examples.png")
    np.savez(folder / "examples.npz", images=result.images, originals=result.originals, labels=result.labels)
    if isinstance(found.made, Patch):
        printed = Image.fromarray(found.made.printable).resize((1024, 1024), Image.Resampling.NEAREST)
        printed.save(folder / "patch.png", dpi=(300, 300))
        record["log_probability"] = [float(v) if np.isfinite(v) else None for v in found.made.history]
    if isinstance(found.made, Substitute):
        save_weights(found.made.network, folder / "substitute.safetensors")
        record |= {"label_queries": found.made.queries, "rounds": found.made.rounds}
    (folder / "attack.json").write_text(json.dumps(record, indent=1, allow_nan=False))


def _wrote(folder: Path, files: list[str]) -> str:
    return f"wrote {', '.join(str(folder / name) for name in sorted(files))}"


def evolve_images(request: EvolveRequest) -> None:
    """Make an image for every class from noise, and write the record, the images and a sheet."""
    from rawcnn.files.atomic import atomic_files

    with begin(request) as run:
        found = _evolve(request, run)
        labels = run.network.labels or tuple(map(str, range(run.network.classes)))
        confidences = list(zip(labels, map(float, found.confidences), strict=True))  # two classes may share a name
        record = {
            "attack": "evolve",
            "model": request.model,
            "weights": request.weights.name if request.weights else None,
            **found.settings,
            **found.summary(),
            "confidences": [{"class": label, "confidence": value} for label, value in confidences],
        }
        with atomic_files(request.folder) as folder:
            _write_evolved(found, labels, folder, record)
            files = os.listdir(folder)
        rows = [(label, f"{value:.2%}") for label, value in confidences]
        run.screen.print_table(f"evolved images, {found.encoding}", ("class", "confidence"), rows, text=("class",))
        run.screen.print(f"median confidence {record['median_confidence']:.2%}")
        run.screen.print(_wrote(request.folder, files))
        run.result = record


def _evolve(request: EvolveRequest, run: Run):
    """Run the method; evolution also keeps a checkpoint in the folder and resumes from it."""
    from rawcnn.attacks import evolve

    method, settings = request.method(), request.method_settings()
    if method is evolve:
        settings["checkpoint"] = request.folder / "evolution.npz"
    with run.screen.progress_bar("evolving") as report:
        return method(run.network, seed=request.seed, compile=request.compile, progress=report, **settings)


def _write_evolved(found, labels: Sequence[str], folder: Path, record: dict[str, Any]) -> None:
    """Write the sheet, the images and the record."""
    import numpy as np

    from rawcnn.plots.figures import fooling_images, save

    save(fooling_images(found, labels), folder / "fooling.png")
    file = folder / "fooling.npz"
    np.savez(file, images=found.images, confidences=found.confidences, history=found.history)
    (folder / "attack.json").write_text(json.dumps(record, indent=1, allow_nan=False))
