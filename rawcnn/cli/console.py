"""What a user sees of a run: resolved settings, progress bars and tables, or JSON instead.

People read stdout; with `--json` it holds JSON alone. Settings, bars and errors go to stderr in both cases.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rawcnn.cli.streams import Unwritten

Told = Callable[..., None]


class Interrupts:
    """Ctrl-C that is not lost: Python drops a KeyboardInterrupt that is raised within a destructor or a callback of C.

    The signal raises at once, as ever, and is remembered; every progress bar asks at its next step.
    """

    def __init__(self) -> None:
        self.pressed = False

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """For the length of a command, where Python would raise at Ctrl-C at all."""
        self.pressed = False
        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def check(self) -> None:
        if self.pressed:
            raise KeyboardInterrupt

    def _press(self, *_: object) -> None:
        self.pressed = True
        raise KeyboardInterrupt


interrupts = Interrupts()


@contextmanager
def terminated(stop: Callable[[], None]) -> Iterator[None]:
    """Within, SIGTERM, by which clusters and containers end a program, calls `stop`; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Screen:
    """The two streams of one command."""

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def settings(self, **values: object) -> None:
        """Print what the command resolved to, so that it can be repeated."""
        shown = "  ".join(f"{name}={value}" for name, value in values.items() if value is not None)
        self.err.print(f"[dim]{escape(shown)}[/dim]")

    def say(self, text: str) -> None:
        """A sentence for people: on stdout, or on stderr where stdout is JSON."""
        (self.err if self.as_json else self.out).print(escape(text))

    def tell(self, text: str) -> None:
        """A sentence on stderr: what a run has to say beside its results."""
        self.err.print(text, markup=False)

    def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, text: Sequence[str] = ()
    ) -> None:
        """A table on stdout; columns in `text` are set left, the last may wrap. Nothing with `--json`."""
        if self.as_json:
            return
        table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False, header_style="bold")
        for name in columns:
            left = name in text
            wraps = left and name == columns[-1]
            table.add_column(name, justify="left" if left else "right", no_wrap=not wraps, overflow="fold")
        for row in rows:
            table.add_row(*(escape(_cell(value)) for value in row))
        self.out.print(table)

    def emit(self, value: object) -> None:
        """The result as JSON on stdout, with `--json` only."""
        if self.as_json:
            print(json.dumps(value, indent=1, default=_plain, allow_nan=False))

    def line(self, value: object) -> None:
        """One line of JSON on stdout, with `--json` only: for results that come one by one."""
        if self.as_json:
            print(json.dumps(value, default=_plain, allow_nan=False), flush=True)

    @contextmanager
    def bar(self, description: str) -> Iterator[Told]:
        """A progress bar on stderr: call it with (done, total, optional text)."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self.err, transient=not self.err.is_terminal) as progress:
            task = progress.add_task(escape(description), total=None, text="")

            def told(done: int, total: int, text: str = "") -> None:
                interrupts.check()
                progress.update(task, completed=done, total=total, text=escape(text))

            yield told


def number(value: float) -> str:
    """Short and exact enough: 25.6 M, 3.86 G, 9,408."""
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}" if abs(value) < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value: object) -> object:
    if hasattr(value, "tolist"):
        return value.tolist()  # NumPy arrays and scalars
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def fail(error: object) -> None:
    """One line on stderr, whatever the message holds; where that takes nothing, the exit code has to say it."""
    with suppress(Unwritten):
        print("rawcnn: " + " ".join(str(error).split()), file=sys.stderr)
