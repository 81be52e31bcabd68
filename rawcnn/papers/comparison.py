"""The comparison of a paper's printed numbers with rawcnn's counts, and helpers that the papers' files share.

A line agrees if the count, rounded as in the paper, equals the printed number. Each other line gives the reason, or
says that the difference is unexplained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from rawcnn.profiling.costs import Profile, profile

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
    def agrees(self) -> bool:
        """Whether the count, rounded to as many decimals as the printed number has, equals it."""
        decimals = len(self.digits.partition(".")[2])
        return round(self.counted / self.unit, decimals) == self.number

    @property
    def is_cut_off(self) -> bool:
        """Whether the printed number is the count with its further decimals cut off."""
        scale = 10 ** len(self.digits.partition(".")[2])
        return int(self.counted / self.unit * scale) == round(self.number * scale)

    @property
    def kind_of_difference(self) -> str:
        """Say whether the number was cut off instead of rounded, or how much it differs."""
        if self.is_cut_off:
            return "cut off, not rounded"
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

    columns = ("row", "quantity", "printed", "counted", "agrees", "explanation")

    @property
    def rows(self) -> list[list[str]]:
        """The table as text: a list of cells for each line."""
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
