"""The comparison of a paper's printed numbers with rawcnn's counts, and helpers that the papers' files share.

A printed number is exact, or equals the count when that is rounded or cut off to as many decimals, or it differs. Each
line that differs gives the reason, or says that the difference is unexplained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import isclose

from rawcnn.profiling.costs import Profile, profile

EXACT, ROUNDED, CUT_OFF, DIFFERS = VERDICTS = ("exact", "equal when rounded", "equal when cut off", "differs")
SMALL = 0.015  # relative difference that rounding the widths of a row can cause
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}

profiled = cache(profile)  # several tables and the tour use the same networks; each is traced once


@dataclass(frozen=True)
class Line:
    """A printed number and the count."""

    row: str
    quantity: str
    printed: str  # such as "60M"
    counted: float
    explanation: str = ""
    units: Mapping[str, float] = field(default_factory=lambda: UNITS)  # suffix of `printed` → its value

    @property
    def digits(self) -> str:
        """The printed number without its unit."""
        return self.printed.rstrip("".join(UNITS))

    @property
    def unit(self) -> float:
        return self.units[self.printed.removeprefix(self.digits)]

    @property
    def number(self) -> float:
        return float(self.digits.replace(",", ""))

    @property
    def decimals(self) -> int:
        """The number of digits after the decimal point."""
        return len(self.digits.partition(".")[2])

    @property
    def verdict(self) -> str:
        """How the printed number compares with the count: one of VERDICTS."""
        value = self.counted / self.unit
        if isclose(value, self.number, rel_tol=1e-12):
            return EXACT
        if round(value, self.decimals) == self.number:
            return ROUNDED
        scale = 10**self.decimals
        return CUT_OFF if int(value * scale) == round(self.number * scale) else DIFFERS

    @property
    def agrees(self) -> bool:
        """Whether the printed number is exact, or equals the count when that is rounded or cut off."""
        return self.verdict != DIFFERS

    @property
    def kind_of_difference(self) -> str:
        """Say how much the printed number differs."""
        text = f"the printed number is {abs(self.difference):.1%} {'higher' if self.difference > 0 else 'lower'}"
        return text if abs(self.difference) < SMALL else f"{text}, which nothing in the table explains"

    @property
    def difference(self) -> float:
        """(printed − counted) / counted."""
        return self.number * self.unit / self.counted - 1


@dataclass(frozen=True)
class Comparison:
    """A paper's table: its lines, and notes on the table as a whole."""

    name: str
    title: str
    source: str
    lines: list[Line]
    notes: list[str]

    columns = ("row", "quantity", "printed", "counted", "comparison", "explanation")

    @property
    def rows(self) -> list[list[str]]:
        """The table as text: a list of cells for each line."""
        return [[x.row, x.quantity, x.printed, f"{x.counted:,.0f}", x.verdict, x.explanation] for x in self.lines]

    @property
    def summary(self) -> str:
        """Count the lines of each verdict: "5 exact, 3 equal when rounded"."""
        counts = Counter(line.verdict for line in self.lines)
        return ", ".join(
            f"{counts[verdict]} {_verb(verdict, counts[verdict])}" for verdict in VERDICTS if counts[verdict]
        )

    def to_dict(self) -> dict[str, object]:
        lines = [
            {
                "row": x.row,
                "quantity": x.quantity,
                "printed": x.printed,
                "counted": x.counted,
                "comparison": x.verdict,
                "difference": x.difference,
                "explanation": x.explanation,
            }
            for x in self.lines
        ]
        return {"paper": self.name, "title": self.title, "source": self.source, "lines": lines, "notes": self.notes}


def _verb(verdict: str, count: int) -> str:
    """Return a verdict as it stands after a number: several lines "differ"."""
    return "differ" if verdict == DIFFERS and count != 1 else verdict


def explained(line: Line, explanation: str = "") -> Line:
    """Return a line that explains itself: without text if it agrees, else with `explanation` or the difference."""
    return replace(line, explanation="" if line.agrees else explanation or line.explanation or line.kind_of_difference)


def sum_of(model: Profile, key: str, *prefixes: str) -> int:
    """Return the sum of a column over the rows whose names begin with one of `prefixes`."""
    return sum(row[key] for row in model.rows if row["name"].startswith(prefixes))


def weights_of(model: Profile, *prefixes: str) -> int:
    """Return the number of weights, without biases, of the operations whose names begin with one of `prefixes`."""
    return sum(
        p.count
        for operation in model.operations
        if operation.name.startswith(prefixes)
        for p in operation.parameters
        if p.path.endswith(("/filters", "/weights"))
    )


def shape_of(model: Profile, name: str) -> list[int]:
    """Return the output shape, [B,H,W,C] or [B,C], of the operation `name`.

    Raises:
        StopIteration: The model has no such operation.
    """
    return next(row["output_shape"] for row in model.rows if row["name"] == name)
