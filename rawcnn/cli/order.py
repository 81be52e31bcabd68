"""What `rawcnn benchmark` was asked for, as each kind of race gets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onednn
from rawcnn.cli.console import Screen
from rawcnn.cli.options import writable

BATCH = 8  # of networks where none is given; attacks have their own


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    screen: Screen
    names: list[str]  # behind the first, which says what is raced
    jobs: list[str] | None
    batch: int | None
    size: int | None
    classes: int | None
    precision: str
    rounds: int
    contestants: list[str] | None
    weights: Path | None
    data: str | None
    tune: bool
    memory: bool
    output: Path
    seed: int
    command: str

    @contextmanager
    def bar(self, what: str) -> Iterator[Callable[[str, int, int], None]]:
        """A progress bar that is told (what, done, total)."""
        with self.screen.bar(what) as told:
            yield lambda text, done, total: told(done, total, text)

    def show(self, **settings: object) -> None:
        """What it resolved to; the file is tried before the work begins."""
        writable(self.output)
        self.screen.settings(**settings, rounds=self.rounds, seed=self.seed, onednn=onednn.state(), output=self.output)

    def end(self, results: object) -> None:
        self.screen.say(f"appended to {self.output}")
        self.screen.emit(results)
