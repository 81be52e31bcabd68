"""Check that the run in a folder is the one to resume: its settings and its data must be the same.

A run keeps the recipe that it began with, also if a later version of rawcnn has changed that recipe: see `former`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import takewhile
from pathlib import Path
from textwrap import shorten
from typing import Any

from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.training.checkpoints import OtherRun
from rawcnn.training.recipes import Recipe
from rawcnn.training.step import Adversary

LABELS = {"images": "other images, of fingerprint"}  # for messages, where the name alone is not clear
FREE = ("name", "source", "epochs")  # fields of a recipe that may change: a run may become longer


def run_settings(network: Network, recipe: Recipe, seed: int, adversary: Adversary | None) -> dict[str, str]:
    """Return the settings that must not change when a run resumes, by name."""
    settings: dict[str, object] = {"model": network.name, "parameters": network.parameter_count}
    settings |= {"classes": network.classes, "size": network.input_size, "precision": network.precision, "seed": seed}
    settings |= {"adversary": adversary} if adversary else {}
    settings |= {**network.settings, **{f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name not in FREE}}
    return {name: repr(value) for name, value in settings.items()}


# Settings that older runs did not have, and their values there
ADDED = {"average_statistics": "False", "auxiliary_smoothing": "False", "decay_all": "False", "gradients": "'tape'"}


def former(recipe: Recipe) -> Recipe:
    """Return a recipe as it was before it was corrected: a run that began with that one resumes with it.

    The moving average covered trained variables alone, and the labels of auxiliary heads were not smoothed.
    """
    changes: dict[str, Any] = {"average_statistics": False, "auxiliary_smoothing": False, "decay_all": False}
    if recipe.name == "bn_inception2015":
        changes |= {"auxiliary_weight": 0.3}
    if recipe.name == "resnext2016":
        changes |= {"optimizer": "momentum", "augmentation": replace(recipe.augmentation, color_jitter=0.0)}
    return replace(recipe, **changes)


def completed(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a run with those that did not exist yet when it began."""
    augmentation = settings.get("augmentation", "")
    if augmentation.endswith(")") and "color_jitter" not in augmentation:
        augmentation = f"{augmentation[:-1]}, color_jitter=0.0)"
    return {**ADDED, **settings, "augmentation": augmentation}


def data_identity(data: DataSet, watched: str) -> dict[str, str]:
    """Return what identifies the data of a run, by name. The fingerprint of some images stands for the content of all.

    Args:
        data: The data set.
        watched: The split that the run evaluates after each epoch. A run that does not use the validation images is the
            same run without them.
    """
    used = {name: split for name, split in data.splits.items() if name != "validation" or watched == name}
    validation = {"validation images": str(data.count("validation"))} if "validation" in used else {}
    return {
        "classes": ", ".join(data.labels),
        "training images": str(data.count("train")),
        **validation,
        "test images": str(data.count("test")),
        "size": str(data.size),
        "images": replace(data, splits=used).fingerprint()[:16],
    }


def check_same(folder: Path | None, verb: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Check that the run in a folder has the present settings or data.

    Args:
        folder: The folder of the run, for the message.
        verb: What the run did with them, for the message: "trained on".
        before: The settings or data of the run in the folder.
        now: The present ones.

    Raises:
        OtherRun: They differ.
    """
    both = {name: (before.get(name, "unset"), now.get(name, "unset")) for name in {**before, **now}}
    both = {LABELS.get(name, name): texts for name, texts in both.items()}
    differences = [f"{name} {_excerpt(a, b)}, not {_excerpt(b, a)}" for name, (a, b) in both.items() if a != b]
    if differences:
        raise OtherRun(
            f"the run in {folder} was {verb} {', '.join(differences)}; resume it with its own settings, or start a new "
            "run in another folder or with `rawcnn train --fresh`"
        )


def check_epochs(folder: Path | None, begun: int, epochs: int) -> None:
    """Check that a run has not begun more epochs than it is to do. Raises OtherRun."""
    if begun > epochs:
        raise OtherRun(
            f"the run in {folder} is in its epoch {begun}, but only {epochs} are requested; give --epochs {begun} or "
            "more, or start a new run in another folder or with `rawcnn train --fresh`"
        )


def _excerpt(text: str, other: str) -> str:
    """At most 60 characters of a text, from shortly before it differs from the other."""
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))
    return shorten(text if same < 30 else f"… {text[same - 20 :]}", 60, placeholder=" …")
