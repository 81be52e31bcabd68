"""Training recipes and runs that the tests of training share."""

from __future__ import annotations

import dataclasses

import numpy as np

from rawcnn.augment import Augmentation
from rawcnn.recipes import Constant, OneCycle, Recipe

RECIPE = Recipe(
    "test", "ours", batch=64, epochs=4, rate=0.1, schedule=OneCycle(), optimizer="nesterov", weight_decay=5e-4,
    label_smoothing=0.1, augmentation=Augmentation(shift=1),
)  # fmt: skip
RMSPROP = dataclasses.replace(RECIPE, name="rms", optimizer="rmsprop", clip=2.0, average=0.9, schedule=Constant())


def state(training):
    owned = (training.network.variables, training.slots, training.averages)
    return {f"{i}/{path}": v.numpy() for i, variables in enumerate(owned) for path, v in variables.items()}


def assert_identical(a, b):
    assert list(a) == list(b)
    for path, value in a.items():
        np.testing.assert_array_equal(value, b[path], path)
