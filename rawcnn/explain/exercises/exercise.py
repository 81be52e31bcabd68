"""What an exercise consists of, and the file that a student starts from."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Exercise:
    """A function that a student writes.

    Attributes:
        title: What to write.
        task: The equation and what to mind, as text.
        solution: The function. A student gets its signature and docstring.
        expected: The same from an independent source: (**inputs) → array, or tuple of arrays.
        cases: Name → inputs, from the simplest to the most general.
        hints: From a nudge to almost the solution.
        source: The file in which the kernel or algorithm stands.
        look: (index of a wrong value, **inputs) → name → array: what this value is computed from.
        differences: Inputs → the gradient by central differences; only for gradients.
        differentiable: The cases in which they apply; by default all.
        tolerance: Relative to the largest right value. The arithmetic is float64.
    """

    title: str
    task: str
    solution: Callable
    expected: Callable
    cases: Mapping[str, Inputs]
    hints: Sequence[str]
    source: str
    look: Callable[..., Mapping[str, Any]]
    differences: Callable[[Inputs], np.ndarray] | None = None
    differentiable: Sequence[str] = ()
    tolerance: float = 1e-9

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.solution.__name__

    def file_name(self, number: int) -> str:
        """The name of the student's file."""
        return f"{number:02d}_{self.name}.py"

    def start(self, number: int) -> str:
        """Return the file that a student starts from: the task, and the function without its body."""
        signature = f"def {self.name}{inspect.signature(self.solution)}:"
        docstring = textwrap.indent(f'"""{inspect.getdoc(self.solution)}\n"""', "    ")
        task = self.task.strip("\n")
        return (
            f'"""Exercise {number}: {self.title}.\n\n{task}\n\n'
            f"Check it with: rawcnn exercise check {number}\n"
            f'"""\n\nimport numpy as np\n\n\n{signature}\n{docstring}\n'
            f'    raise NotImplementedError("replace this line by your code")\n'
        )

    def solved(self, number: int) -> str:
        """Return the same file with the body of the solution."""
        head, _, _ = self.start(number).partition(f"def {self.name}")
        return head + inspect.getsource(self.solution)


def central_differences(function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """The gradient of a number with respect to x: (f(x + h) − f(x − h)) / 2h, one value of x at a time.

    Args:
        function: Array → number.
        x: The array, of any shape.
        step: h.

    Returns:
        The gradient, shaped like x.
    """
    gradient = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        above, below = x.astype(float), x.astype(float)
        above[place] += step
        below[place] -= step
        gradient[place] = (function(above) - function(below)) / (2 * step)
    return gradient


def integers(*shape: int, seed: int = 0, low: int = -3, high: int = 4) -> np.ndarray:
    """Small whole numbers as float64, so that a student can check a value by hand."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(np.float64)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers from a normal distribution."""
    return np.random.default_rng(seed).normal(size=shape)
