"""Check a student's function: compare it with the reference, and show the first value that is wrong."""

from __future__ import annotations

import copy
import runpy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rawcnn.explain.exercises.exercise import Exercise, Inputs

DIFFERENCES_TOLERANCE = 1e-6  # of central differences


@dataclass(frozen=True)
class Verdict:
    """What the check of one case found.

    Attributes:
        case: The name of the case.
        right: Whether all values are right.
        message: What is right, or the first thing that is wrong.
        shown: Name → array: what the wrong value is computed from.
    """

    case: str
    right: bool
    message: str
    shown: dict[str, Any]


def load_function(exercise: Exercise, file: Path) -> Callable:
    """Run a student's file and return the function of the exercise.

    Raises:
        ValueError: There is no such file, it cannot be run, or it lacks the function.
    """
    if not file.is_file():
        raise ValueError(f"{file} does not exist; `rawcnn exercise start` writes it")
    try:
        names = runpy.run_path(str(file))
    except Exception as error:
        raise ValueError(
            f"{file}{_line(error, file)}: {type(error).__name__}: {error}; mend it and check again"
        ) from None
    function = names.get(exercise.name)
    if not callable(function):
        raise ValueError(f"{file} has no function {exercise.name}; expected one, as `rawcnn exercise start` writes it")
    return function


def check(exercise: Exercise, function: Callable, file: Path | None = None) -> list[Verdict]:
    """Check a function with all cases of an exercise, up to the first that is wrong.

    Args:
        exercise: The exercise.
        function: The student's function.
        file: The student's file, for line numbers in messages.

    Returns:
        A verdict for each case that was checked.
    """
    verdicts = []
    for case, inputs in exercise.cases.items():
        verdicts.append(_check_case(exercise, function, case, inputs, file))
        if not verdicts[-1].right:
            break
    return verdicts


def _check_case(exercise: Exercise, function: Callable, case: str, inputs: Inputs, file: Path | None) -> Verdict:
    try:
        found = function(**copy.deepcopy(dict(inputs)))  # a copy, so that the function may write into its arguments
    except NotImplementedError as error:
        return Verdict(case, False, f"not written yet: {error}", {})
    except Exception as error:
        return Verdict(case, False, f"{type(error).__name__}{_line(error, file)}: {error}", {})
    expected = exercise.expected(**inputs)
    if isinstance(expected, tuple):
        if not isinstance(found, (tuple, list)) or len(found) != len(expected):
            got = f"{len(found)} values" if isinstance(found, (tuple, list)) else type(found).__name__
            return Verdict(case, False, f"the function returned {got}; expected {len(expected)} values", {})
        pairs = [(f"result {n}: ", f, e) for n, (f, e) in enumerate(zip(found, expected, strict=True), 1)]
    else:
        pairs = [("", found, expected)]
    for which, values, right in pairs:
        if wrong := _first_wrong(exercise, which, values, np.asarray(right), inputs, case):
            return wrong
    count = sum(np.size(right) for _, _, right in pairs)
    message = f"{count} value{'s are' if count != 1 else ' is'} right"
    if exercise.differences and case in (exercise.differentiable or exercise.cases):
        numeric = exercise.differences(inputs)
        largest = float(np.abs(numeric - found).max())
        if largest > DIFFERENCES_TOLERANCE * max(1.0, float(np.abs(numeric).max())):
            return Verdict(case, False, f"central differences differ by up to {largest:.0e}", {})
        message += f"; the largest difference from central differences is {largest:.0e}"
    return Verdict(case, True, message, {})


def _first_wrong(
    exercise: Exercise, which: str, found: Any, expected: np.ndarray, inputs: Inputs, case: str
) -> Verdict | None:
    """The verdict on the first wrong value, or None."""
    try:
        values = None if found is None else np.asarray(found, np.float64)
    except (TypeError, ValueError):
        values = None
    if values is None:
        return Verdict(case, False, f"{which}the function returned {type(found).__name__}; expected an array", {})
    if values.shape != expected.shape:
        return Verdict(case, False, f"{which}the shape is {values.shape}; expected {expected.shape}", {})
    limit = exercise.tolerance * max(float(np.abs(expected).max(initial=0)), 1e-300)
    wrong = ~(np.abs(values - expected) <= limit)  # true for NaN, too
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"{int(wrong.sum())} of {wrong.size} values are wrong, first at {list(index)}: " if index else ""
    message = f"{which}{place}{values[index]:.6g}; expected {expected[index]:.6g}"
    return Verdict(case, False, message, dict(exercise.look(index, **inputs)))


def _line(error: Exception, file: Path | None) -> str:
    """The line of the student's file in which an error arose, as text."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if file and Path(frame.filename) == file
    ]
    return f", line {lines[-1]}" if lines else ""
