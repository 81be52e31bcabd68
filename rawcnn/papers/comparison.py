"""A paper's printed numbers beside the counts: a Comparison of Lines, and what every paper's file counts with.

A line agrees when the count, rounded as the paper rounds, is the printed number. One that does not agree says why, or
that nothing explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from rawcnn.profiling.costs import Profile, profile

SMALL = 0.015  # of a number: what rounding the widths of a row may do
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}

profiled = cache(profile)  # several tables, and the tour, ask for the same network: each is walked once


@dataclass(frozen=True)
class Line:
    """One printed number: `printed` such as "60M", in units that `units` spells out, beside the count."""

    row: str
    quantity: str
    printed: str
    counted: float
    explanation: str = ""
    units: Mapping[str, float] = field(default_factory=lambda: UNITS)

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
    def agrees(self) -> bool:
        """The count rounds to the printed number, at the printed number of decimals."""
        decimals = len(self.digits.partition(".")[2])
        return round(self.counted / self.unit, decimals) == self.number

    @property
    def is_cut_off(self) -> bool:
        """The printed number is the count with its further decimals cut off."""
        scale = 10 ** len(self.digits.partition(".")[2])
        return int(self.counted / self.unit * scale) == round(self.number * scale)

    @property
    def kind_of_difference(self) -> str:
        """Cut instead of rounded, a little off, or more than that, in words."""
        if self.is_cut_off:
            return "cut off, not rounded"
        words = f"the printed number is {abs(self.difference):.1%} {'higher' if self.difference > 0 else 'lower'}"
        return words if abs(self.difference) < SMALL else f"{words}, which nothing in the table explains"

    @property
    def difference(self) -> float:
        """(printed − counted) / counted."""
        return self.number * self.unit / self.counted - 1


@dataclass(frozen=True)
class Comparison:
    """A paper's table: its lines, and what to know about the whole."""

    name: str
    title: str
    source: str
    lines: list[Line]
    notes: list[str]

    columns = ("row", "quantity", "printed", "counted", "agrees", "explanation")

    @property
    def rows(self) -> list[list[str]]:
        """The table as text, a list of cells a line."""
        return [
            [x.row, x.quantity, x.printed, f"{x.counted:,.0f}", "yes" if x.agrees else "no", x.explanation]
            for x in self.lines
        ]

    def to_dict(self) -> dict[str, object]:
        lines = [
            {
                "row": x.row,
                "quantity": x.quantity,
                "printed": x.printed,
                "counted": x.counted,
                "agrees": x.agrees,
                "difference": x.difference,
                "explanation": x.explanation,
            }
            for x in self.lines
        ]
        return {"paper": self.name, "title": self.title, "source": self.source, "lines": lines, "notes": self.notes}


def explained(line: Line, explanation: str = "") -> Line:
    """The line as it is where it agrees; with `explanation`, or else the kind of its difference, where it does not."""
    return replace(line, explanation="" if line.agrees else explanation or line.explanation or line.kind_of_difference)


def sum_of(model: Profile, key: str, *prefixes: str) -> int:
    """A column's sum over the rows whose names begin with one of `prefixes`."""
    return sum(row[key] for row in model.rows if row["name"].startswith(prefixes))


def weights_of(model: Profile, *prefixes: str) -> int:
    """Weights of filters and dense layers, biases left out, of the operations that begin with `prefixes`."""
    return sum(
        p.count
        for operation in model.operations
        if operation.name.startswith(prefixes)
        for p in operation.parameters
        if p.path.endswith(("/filters", "/weights"))
    )


def shape_of(model: Profile, name: str) -> list[int]:
    """Shape [B,H,W,C] or [B,C] of what the operation `name` gives. Raises StopIteration for a name it does not have."""
    return next(row["output_shape"] for row in model.rows if row["name"] == name)
