"""Training recipes and runs that the tests of training share."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from rawcnn.data.augmentation import Augmentation
from rawcnn.optim.schedules import Constant, OneCycle
from rawcnn.training.recipes import Recipe
from rawcnn.training.trainer import Training
from tests.rawcnn import small

RECIPE = Recipe(
    "test", "ours", batch=64, epochs=4, rate=0.1, schedule=OneCycle(), optimizer="nesterov", weight_decay=5e-4,
    label_smoothing=0.1, augmentation=Augmentation(shift=1),
)  # fmt: skip
RMSPROP = dataclasses.replace(RECIPE, name="rms", optimizer="rmsprop", clip=2.0, average=0.9, schedule=Constant())


def state(training):
    return {
        f"{i}/{path}": v.numpy() for i, variables in enumerate(training.state.groups) for path, v in variables.items()
    }


def assert_identical(a, b):
    assert list(a) == list(b)
    for path, value in a.items():
        np.testing.assert_array_equal(value, b[path], path)


_finished: dict[str, tuple[Any, TemporaryDirectory]] = {}  # a run's key → its data, which keep their id, and its folder


def trained(folder, data, recipe=RECIPE, epochs=1):
    """Return the training of some epochs, with checkpoints in `folder`. Equal runs are trained once and then copied."""
    recipe = dataclasses.replace(recipe, epochs=epochs)
    key = f"{recipe} {id(data)}"
    if key not in _finished:
        _finished[key] = data, TemporaryDirectory()
        Training(small.network(), recipe, folder=Path(_finished[key][1].name)).fit(data)
    shutil.copytree(_finished[key][1].name, folder, dirs_exist_ok=True)
    training = Training(small.network(), recipe, folder=folder)
    training.restore()
    return training


def files_of(folder):
    files = (folder / "checkpoints").rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.is_file()}
