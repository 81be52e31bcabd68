"""Twelve exercises: a student writes a function with NumPy, and rawcnn checks it.

An exercise is a function with its solution. `start` writes its equation and its docstring into a file of the
student's, without the body; `check` compares what the student wrote with the kernel's NumPy reference, and gradients
also with central differences. Exercises are listed here in their order.
"""

from __future__ import annotations

from rawcnn.explain.exercises import attacks, convolution, loss, networks, normalization, pooling
from rawcnn.explain.exercises.exercise import Exercise

EXERCISES: tuple[Exercise, ...] = (
    convolution.FORWARD,
    convolution.IMAGE_GRADIENT,
    convolution.FILTER_GRADIENT,
    pooling.TIES,
    normalization.TRAINING,
    normalization.FOLD,
    normalization.RESPONSE,
    loss.CROSS_ENTROPY,
    networks.RECEPTIVE_FIELD,
    networks.REDUCTION,
    attacks.PROJECTION,
    attacks.DECONVNET,
)


def find_exercise(number: int) -> Exercise:
    """Return an exercise by its number, from 1. Raises ValueError for a number that does not exist."""
    if not 1 <= number <= len(EXERCISES):
        raise ValueError(
            f"there is no exercise {number}; expected 1 to {len(EXERCISES)}, which `rawcnn exercise list` describes"
        )
    return EXERCISES[number - 1]
