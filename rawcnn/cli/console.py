"""What a user sees of a run: settings, progress bars, tables and messages, or JSON.

Results go to stdout. With `--json`, stdout holds only JSON. Settings, progress bars and errors always go to stderr.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from rawcnn.cli.parsing import show_size
from rawcnn.cli.streams import OutputFailed

LOG_SECONDS = 30  # between two lines about progress where stderr is no terminal


class BarReport(Protocol):
    """A callback that moves a progress bar."""

    def __call__(self, done: int, total: int, text: str = "") -> None: ...


class Interrupts:
    """Ctrl-C that is never lost.

    Python discards a KeyboardInterrupt that is raised in a destructor or in a C callback. The signal handler therefore
    also remembers the signal, and every progress bar checks for it at its next step.
    """

    def __init__(self) -> None:
        self.pressed = False

    @contextmanager
    def remembered(self) -> Iterator[None]:
        """Remember Ctrl-C within the block; does nothing where Python would not raise KeyboardInterrupt."""
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
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self.pressed:
            raise KeyboardInterrupt

    def _press(self, *_: object) -> None:
        self.pressed = True
        raise KeyboardInterrupt


interrupts = Interrupts()


@contextmanager
def on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGTERM within the block, in the main thread only. Clusters and containers send SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Screen:
    """The stdout and stderr of one command.

    Args:
        as_json: Whether stdout holds JSON instead of text.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def print_settings(self, values: Mapping[str, object]) -> None:
        """Print the resolved settings on stderr, so that the command can be repeated. None values are left out."""
        present = {name: show_size(value) if "size" in name else value for name, value in values.items()}
        shown = "  ".join(f"{name}={_setting(value)}" for name, value in present.items() if value is not None)
        if shown:
            self.err.print(f"[dim]{escape(shown)}[/dim]")

    def print(self, text: str) -> None:
        """Print a line of the result: on stdout, or on stderr with `--json`."""
        (self.err if self.as_json else self.out).print(escape(text))

    def note(self, text: str) -> None:
        """Print a remark about the run on stderr."""
        self.err.print(text, markup=False)

    def print_table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, text: Sequence[str] = ()
    ) -> None:
        """Print a table on stdout, or nothing with `--json`.

        Args:
            title: The line above the table.
            columns: The column headers.
            rows: One sequence of cells per row.
            text: Headers of the columns that are aligned left; if the last column is one of them, it may wrap.
        """
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

    def print_json(self, value: object) -> None:
        """Print the result as indented JSON on stdout, with `--json` only."""
        if self.as_json:
            print(json.dumps(value, indent=1, default=_plain, allow_nan=False))

    def print_json_line(self, value: object) -> None:
        """Print one of several results as a line of JSON on stdout, with `--json` only."""
        if self.as_json:
            print(json.dumps(value, default=_plain, allow_nan=False), flush=True)

    @contextmanager
    def progress_bar(self, description: str) -> Iterator[BarReport]:
        """Show a progress bar on stderr and yield the callback that moves it; in a log, a line twice a minute."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=self.err, disable=not self.err.is_terminal) as progress:
            task = progress.add_task(escape(description), total=None, text="")
            printed = time.monotonic()

            def report(done: int, total: int, text: str = "") -> None:
                nonlocal printed
                interrupts.check()
                progress.update(task, completed=done, total=total, text=escape(text))
                if not self.err.is_terminal and time.monotonic() > printed + LOG_SECONDS:
                    printed = time.monotonic()
                    self.note(f"{description}: {done} of {total} {text}".rstrip())

            yield report


def short_number(value: float) -> str:
    """Format a number with three significant digits: 25.6 M, 3.86 G; whole numbers below a million stay exact."""
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}" if abs(value) < 1000 * size else f"{value / size:,.0f} {unit}"
    return f"{value:,.0f}" if value == int(value) else f"{value:.3g}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _setting(value: object) -> object:
    """A setting for people: floats have six digits, as 8/255 = 0.0313725."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(str(_setting(item)) for item in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else value


def _plain(value: object) -> object:
    """Convert what JSON does not know."""
    if hasattr(value, "tolist"):
        return value.tolist()  # NumPy arrays and scalars
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def fail(error: object) -> None:
    """Print an error as one line on stderr. If stderr cannot be written, only the exit code reports the error."""
    with suppress(OutputFailed):
        print("rawcnn: " + " ".join(str(error).split()), file=sys.stderr)
