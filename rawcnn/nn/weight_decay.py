"""Weight decay: which variables decay, and the gradient of the penalty λ/2·Σw²."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

import kernels


class WeightDecay(Protocol):
    """What a recipe says about weight decay; `rawcnn.training.recipes.Recipe` has these attributes."""

    @property
    def weight_decay(self) -> float:
        """λ, which adds λ/2·Σw²."""

    @property
    def decay_all(self) -> bool:
        """Whether all trained variables decay, not filters and weights alone."""


def decays(path: str) -> bool:
    """Say whether a variable is of filters or weights: weight decay does not apply to biases and batch norm."""
    return path.endswith(("/filters", "/weights"))


def decayed(trained: Mapping[str, tf.Tensor | tf.Variable], recipe: WeightDecay) -> dict[str, tf.Tensor | tf.Variable]:
    """Return the trained variables that decay, by path; none if the recipe has no weight decay."""
    return {path: w for path, w in trained.items() if recipe.weight_decay and (decays(path) or recipe.decay_all)}


def with_weight_decay(
    gradients: Mapping[str, tf.Tensor], trained: Mapping[str, tf.Tensor | tf.Variable], recipe: WeightDecay
) -> dict[str, tf.Tensor]:
    """Add the gradient λ·w of the penalty to the gradients of the loss, by path.

    Args:
        gradients: The gradient to each trained variable.
        trained: The trained variables, or their values.
        recipe: λ, and which variables decay.

    Returns:
        The gradients to all of them.

    Source: Krogh & Hertz 1992.
    """
    weights = decayed(trained, recipe)
    penalties = dict(zip(weights, kernels.weight_decay_gradient(weights.values()), strict=True))
    return {**gradients, **{path: gradients[path] + recipe.weight_decay * g for path, g in penalties.items()}}
