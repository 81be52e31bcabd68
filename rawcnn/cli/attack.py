"""`rawcnn attack`: fool a network by each attack of the lecture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import (
    Batch,
    Classes,
    Compile,
    Json,
    Model,
    Options,
    Seed,
    SkipUnreadable,
    Weights,
    load_data,
    network_for,
    settings_of,
    writable,
)

NAMES = "fgsm, bim, mi_fgsm, pgd, smallest, deepfool, logit_pga, spatial, patch, substitute or evolve"


def attack(
    name: Annotated[str, typer.Argument(help=f"{NAMES}.")],
    model: Model,
    data: Annotated[
        str | None, typer.Option(help="digits, cifar10, mnist, fashion_mnist, folder:PATH, records:PATH or tfds:NAME.")
    ] = None,
    weights: Weights = None,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(help="How much may change: of a pixel, of 1; of spatial, patch: a share. May be repeated."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of the attacks that take some.", min=1)] = None,
    target: Annotated[int | None, typer.Option(help="A class to be mistaken for.", min=0)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", help="A setting of the attack: norm=l2; a wrong one lists them."),
    ] = None,
    count: Annotated[int | None, typer.Option(help="How many test images, drawn at random; or all.", min=1)] = None,
    batch: Batch = 128,
    classes: Classes = None,
    output: Annotated[Path | None, typer.Option(help="Folder to write to; attack/NAME otherwise.")] = None,
    option: Options = None,
    compile: Compile = "auto",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Fool a network: accuracy against epsilon, a sheet of examples, and the images."""
    from rawcnn.attacks import study
    from rawcnn.attacks.catalogue import checked, find
    from rawcnn.files.atomic import atomic_files

    screen = Screen(as_json)
    settings = settings_of(set_, "--set", "norm=l2") | ({} if steps is None else {"steps": steps})
    output = output or Path("attack") / name
    if name == "evolve":
        others = {"--data": data, "--epsilon": epsilon, "--target": target, "--count": count}
        if wrong := [option for option, value in others.items() if value is not None]:
            raise ValueError(f"evolve begins with no images, and seeks all classes; leave out {', '.join(wrong)}")
        writable(output / "attack.json")
        return _evolve(screen, model, weights, classes, option, settings, output, compile, seed)
    checked(name, settings, target)
    kind = find(name, settings)
    if data is None:
        raise ValueError(f"{name} attacks images; give --data, such as digits or folder:PATH")
    network = network_for(model, weights, classes=classes, seed=seed, options=option)
    writable(output / "attack.json")
    epsilons = list(epsilon or kind.epsilons)
    screen.settings(attack=name, model=model, data=data, weights=weights or "random", epsilons=epsilons, seed=seed)
    screen.settings(**settings, target=target, images=count or "all", batch=batch, compile=compile, output=output)
    images = load_data(screen, data, network.input_size, skip_unreadable)
    with screen.bar("attacking") as told:
        found = study(
            name, network, images, epsilons, target=target, count=count, batch=batch, seed=seed, compile=compile,
            journal=output / "outcomes.jsonl", progress=told, tell=screen.tell, settings=settings,
        )  # fmt: skip
    record = {
        "attack": name,
        "model": model,
        "weights": weights.name if weights else None,
        "options": list(option or ()),
        "data": data,
        "seed": seed,
        **found.settings,
        "epsilon_is": found.unit,
        "images": found.rows[0]["images"],
        "images_drawn": count is not None,
        "accuracy_against_epsilon": found.rows,
    }
    with atomic_files(output) as folder:
        _write(found, network.labels or images.labels, folder, record)
        files = os.listdir(folder)
    cells = [
        (
            f"{r['epsilon']:.4f}",
            f"{r['accuracy_after']:.2%}",
            _share(r["success_rate"]),
            r["images"],
            f"{r['mean_l2']:.3f}",
        )
        for r in found.rows
    ]
    screen.table(f"{name}; epsilon is the {found.unit}", ("epsilon", "accuracy", "success", "images", "mean L2"), cells)
    screen.say(_wrote(output, files))
    screen.emit(record)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _write(found, labels, output: Path, record: dict[str, Any]) -> None:
    """The files of a study; what is made besides is added to the record."""
    import numpy as np
    from PIL import Image

    from rawcnn.attacks import Patch, Substitute
    from rawcnn.plots.figures import accuracy_curve, examples, save
    from rawcnn.weights import save_weights

    result = found.examples
    save(accuracy_curve(found.rows, found.name, found.unit), output / "curve.png")
    save(examples(result, labels), output / "examples.png")
    np.savez(output / "examples.npz", images=result.images, originals=result.originals, labels=result.labels)
    if isinstance(found.made, Patch):
        printed = Image.fromarray(found.made.printable).resize((1024, 1024), Image.Resampling.NEAREST)
        printed.save(output / "patch.png", dpi=(300, 300))
        record["log_probability"] = [float(v) for v in found.made.history]
    if isinstance(found.made, Substitute):
        save_weights(found.made.network, output / "substitute.safetensors")
        record |= {"label_queries": found.made.queries, "rounds": found.made.rounds}
    (output / "attack.json").write_text(json.dumps(record, indent=1, allow_nan=False))


def _wrote(output: Path, files: list[str]) -> str:
    return f"wrote {', '.join(str(output / name) for name in sorted(files))}"


def _evolve(
    screen: Screen, model, weights, classes, option, settings: dict, output: Path, compile: str, seed: int
) -> None:
    """Images for no image: evolved, or with encoding=gradient climbed."""
    import numpy as np

    from rawcnn.attacks import ascend, evolve
    from rawcnn.attacks.catalogue import keywords
    from rawcnn.attacks.evolution import ENCODINGS
    from rawcnn.files.atomic import atomic_files
    from rawcnn.plots.figures import fooling_images, save

    encoding = settings.get("encoding", "direct")
    if encoding not in (known_encodings := (*ENCODINGS, "gradient")):
        raise ValueError(f"encoding is {encoding!r}; expected one of {', '.join(known_encodings)}")
    make = ascend if encoding == "gradient" else evolve
    given = {key: value for key, value in settings.items() if (key, value) != ("encoding", "gradient")}
    known = keywords(make)
    if unknown := [key for key in given if key not in known]:
        some = ", ".join(f"{key}={value!r}" for key, value in known.items())
        raise ValueError(f"evolve has no setting {', '.join(unknown)}; with encoding={encoding} they are {some}")
    network = network_for(model, weights, classes=classes, seed=seed, options=option)
    screen.settings(attack="evolve", model=model, weights=weights or "random", seed=seed, **settings, output=output)
    with screen.bar("evolving") as told:
        given |= {"checkpoint": output / "evolution.npz"} if make is evolve else {}
        found = make(network, seed=seed, compile=compile, progress=told, **given)
    labels = network.labels or tuple(map(str, range(network.classes)))
    told_weights = weights.name if weights else None
    record = {"attack": "evolve", "model": model, "weights": told_weights, **found.settings, **found.summary()}
    pairs = list(zip(labels, map(float, found.confidences), strict=True))  # two classes may have one name
    record["confidences"] = [{"class": label, "confidence": value} for label, value in pairs]
    with atomic_files(output) as folder:
        save(fooling_images(found, labels), folder / "fooling.png")
        file = folder / "fooling.npz"
        np.savez(file, images=found.images, confidences=found.confidences, history=found.history)
        (folder / "attack.json").write_text(json.dumps(record, indent=1, allow_nan=False))
        files = os.listdir(folder)
    rows = [(label, f"{value:.2%}") for label, value in pairs]
    screen.table(f"evolved images, {found.encoding}", ("class", "confidence"), rows, text=("class",))
    screen.say(f"median confidence {record['median_confidence']:.2%}")
    screen.say(_wrote(output, files))
    screen.emit(record)
