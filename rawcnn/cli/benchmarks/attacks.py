"""`rawcnn benchmark attacks`: race attacks against other libraries or against a loop around Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.benchmarks.request import (
    FOLDER,
    ROUNDS,
    BenchmarkRequest,
    Classes,
    Output,
    Rounds,
    finish,
    progress_bar,
)
from rawcnn.cli.console import Screen
from rawcnn.cli.options import DATA, Head, Json, Seed, Size, SkipUnreadable, Weights
from rawcnn.cli.parsing import ImageSize, without_folders
from rawcnn.cli.request import Run, begin, load_data, load_network

COLUMNS = ("contestant", "seconds", "success", "mean L2")


@dataclass(frozen=True, kw_only=True)
class AttacksRequest(BenchmarkRequest):
    """The options of `rawcnn benchmark attacks`; `names` are attacks and networks."""

    names: Sequence[str]
    batch: int | None
    size: ImageSize | None
    classes: int | None
    rounds: int
    contestants: Sequence[str] | None
    weights: Path | None
    data: str | None
    skip_unreadable: bool
    head: str = "load"

    def networks(self) -> list[str]:
        """Return the named networks; none means the default one."""
        from rawcnn.models import MODELS

        return [name for name in self.names if name in MODELS]

    def attacks(self) -> list[str]:
        """Return the named attacks; by default all, or PGD where networks are named."""
        from benchmarks.races.attacks import ATTACKS, PGDS

        return [name for name in self.names if name in ATTACKS] or list(PGDS if self.networks() else ATTACKS)

    def resolved_contestants(self) -> Sequence[str] | None:
        """Return the contestants; named networks race only the Keras loop, because libraries take minutes per call."""
        from benchmarks.races.attacks import AGAINST_KERAS

        return self.contestants or (AGAINST_KERAS if self.networks() else None)

    def check(self) -> None:
        from benchmarks.races.attacks import ATTACKS, select_contestants
        from rawcnn.models import MODELS

        if unknown := [name for name in self.names if name not in ATTACKS and name not in MODELS]:
            known = ", ".join(map(repr, ATTACKS))
            raise ValueError(f"there is no race of {unknown[0]!r}; expected {known} or networks")
        for attack in self.attacks():
            select_contestants(attack, self.resolved_contestants())

    def load_networks(self) -> list:
        from benchmarks.races.attacks import MODEL

        return [
            load_network(
                name, self.weights, size=self.size, classes=self.classes, seed=self.seed, head=self.head,
                check=lambda network: network.check_classifier(),
            )
            for name in self.networks() or [MODEL]
        ]  # fmt: skip

    def settings(self, network: Any = None) -> dict[str, Any]:
        from benchmarks.races.attacks import MODEL

        return {
            "attacks": ", ".join(self.attacks()),
            "networks": ", ".join(self.networks() or [MODEL]),
            "weights": self.weights or "random",
            "data": self.data or "noise",
            "batch": self.batch,
            "rounds": self.rounds,
            "seed": self.seed,
            "output": self.output,
        }

    def metadata(self) -> dict[str, str]:
        """Return the weights and the data as the results record them."""
        return {
            "weights": self.weights.name if self.weights else f"drawn, seed {self.seed}",
            "data": without_folders(self.data) if self.data else f"noise, seed {self.seed}",
        }


def attacks(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ATTACK|MODEL]...",
            help="Attacks to race (an unknown name lists them), and networks to attack by PGD; default: all attacks on "
            "a CIFAR ResNet-20.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Number of images; default: the race's own.", min=1)] = None,
    size: Size = None,
    classes: Classes = None,
    rounds: Rounds = ROUNDS,
    contestant: Annotated[
        list[str] | None,
        typer.Option(help="Contestant; an unknown name lists them; default: all that are installed. Repeatable."),
    ] = None,
    weights: Weights = None,
    head: Head = "load",
    data: Annotated[str | None, typer.Option(help=f"Images to attack; default: noise. {DATA}.")] = None,
    output: Output = FOLDER / "attacks.jsonl",
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Race attacks against other libraries.

    The attacks are PGD, DeepFool and the spatial grid search. Named networks are attacked by PGD only, against a loop
    around Keras.
    """
    request = AttacksRequest(
        names=names or (), batch=batch, size=size, classes=classes, rounds=rounds, contestants=contestant,
        weights=weights, data=data, output=output, skip_unreadable=skip_unreadable, as_json=as_json, seed=seed,
        head=head,
    )  # fmt: skip
    race_attacks(request)


def race_attacks(request: AttacksRequest) -> None:
    """Race each attack on each network and print one table for each."""
    from benchmarks.run import run_attacks

    with begin(request) as run:
        tasks = [(network, *_load_images(request, network, run)) for network in request.load_networks()]
        races = []
        with progress_bar(run, "racing") as report:
            for network, images, labels in tasks:
                races += run_attacks(
                    request.attacks(), network, images, labels, batch=request.batch,
                    contestants=request.resolved_contestants(), rounds=request.rounds, seed=request.seed,
                    named=request.metadata(), **request.destination(), progress=report,
                )  # fmt: skip
        for race in races:
            _print_race(race, run.screen)
        finish(run, request, [race.to_json() for race in races])


def _load_images(request: AttacksRequest, network, run: Run):
    """Return the test images and labels of the data set; (None, None) without one."""
    if not request.data:
        return None, None
    data = load_data(run.screen, request.data, network.image_size, request.skip_unreadable)
    if len(data.labels) != network.classes:
        raise ValueError(
            f"{request.data} has {len(data.labels)} classes; expected the {network.classes} of the network"
        )
    return data.arrays("test")


def _print_race(race, screen: Screen) -> None:
    """Print the time and the success rate of each contestant, and the fastest library's time over rawcnn's."""
    rows = [
        (t.name, f"{t.median:.2f}", f"{race.success[t.name]:.2%}", f"{race.l2[t.name][0]:.3f}") for t in race.timings
    ]
    title = f"{race.attack}, {race.network}, {race.batch} images"
    screen.print_table(title, COLUMNS, rows, text=("contestant",))
    if (best := race.fastest_peer) and (ratio := race.ratio()):
        screen.print(f"{best.name}, the fastest other contestant, takes {ratio:.1f} times as long as rawcnn")
