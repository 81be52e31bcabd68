"""Is the run in a folder the one that is to go on? Its settings and its images must be the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from itertools import takewhile
from pathlib import Path
from textwrap import shorten

from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.training.checkpoints import OtherRun
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import Adversary

WORDS = {"images": "other images, of fingerprint"}  # for people, where the name alone would not do
FREE = ("name", "source", "epochs")  # of a recipe: a run may become longer


def settings_of(network: Network, recipe: Recipe, seed: int, adversary: Adversary | None) -> dict[str, str]:
    """What must not change when a run goes on."""
    about: dict[str, object] = {"model": network.name, "parameters": network.parameter_count}
    about |= {"classes": network.classes, "size": network.input_size, "precision": network.precision, "seed": seed}
    about |= {"adversary": adversary} if adversary else {}
    about |= {**network.settings, **{f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name not in FREE}}
    return {name: repr(value) for name, value in about.items()}


def images_of(data: DataSet) -> dict[str, str]:
    """The same of the images; a fingerprint of some of them stands for their content."""
    return {
        "classes": ", ".join(data.labels),
        "training images": str(data.count("train")),
        "test images": str(data.count("test")),
        "size": str(data.size),
        "images": data.fingerprint()[:16],
    }


def check_same(folder: Path | None, verb: str, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """OtherRun where the run in the folder was made with something else; `verb` as in "trained on"."""
    both = {name: (then.get(name, "unset"), now.get(name, "unset")) for name in {**then, **now}}
    both = {WORDS.get(name, name): texts for name, texts in both.items()}
    differences = [f"{name} {_apart(a, b)}, not {_apart(b, a)}" for name, (a, b) in both.items() if a != b]
    if differences:
        raise OtherRun(
            f"the run in {folder} was {verb} {', '.join(differences)}; go on with its settings, or start anew "
            "in another folder or with --fresh"
        )


def check_epochs(folder: Path | None, begun: int, epochs: int) -> None:
    """OtherRun where more epochs were begun than are to be done."""
    if begun > epochs:
        raise OtherRun(
            f"the run in {folder} is in its epoch {begun} and is not to have more than {epochs}; give --epochs {begun} "
            "or more, or start anew in another folder or with --fresh"
        )


def _apart(text: str, other: str) -> str:
    """What a message has room for of a text, from shortly before it differs from the other."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))
    return shorten(text if same < 30 else f"… {text[same - 20 :]}", 60, placeholder=" …")
