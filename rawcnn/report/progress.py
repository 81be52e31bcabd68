"""The progress of long work: bars on stderr, one for each step, and a clock that times the steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from rawcnn.files.progress import Progress

StepReport = Callable[[str, int, int], None]  # (step, done, total)


def silent(step: str, done: int, total: int) -> None:
    """A StepReport that shows nothing."""


@contextmanager
def bars() -> Iterator[StepReport]:
    """Yield a StepReport that shows each step as a bar on a line of its own on stderr; in a log, as a line."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console, disable=not console.is_terminal) as display:
        tasks: dict[str, TaskID] = {}

        def report(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = display.add_task(step, total=total)
                if not console.is_terminal:
                    console.print(f"{step} …", markup=False, highlight=False)
            display.update(tasks[step], completed=done, total=total)

        yield report


@dataclass
class Clock:
    """Times the steps of long work, and reports their progress."""

    report: StepReport
    seconds: dict[str, float] = field(default_factory=dict)  # by the step's title

    @contextmanager
    def step(self, title: str, total: int = 1) -> Iterator[Progress]:
        """Time a step. Yield a function (done, total) that reports progress within it."""
        start = time.perf_counter()
        self.report(title, 0, total)
        last = total

        def report(done: int, total: int) -> None:
            nonlocal last
            last = total
            self.report(title, done, total)

        yield report
        self.report(title, last, last)
        self.seconds[title] = time.perf_counter() - start
