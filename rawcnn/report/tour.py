"""The tour: the lecture's three chapters in a few minutes on two cores, as one page that works offline.

It profiles the networks against their papers' tables, draws them, trains a small residual network on scikit-learn's
digits, evaluates it, looks into it, fools it, and races a network against Keras. Nothing is downloaded.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import rawcnn
from rawcnn import data
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.papers import PAPERS, Comparison, compare, profiled
from rawcnn.papers.imagenet_errors import ERRORS
from rawcnn.profiling.costs import Profile
from rawcnn.report import kernel_claims as lecture
from rawcnn.report.album import Album
from rawcnn.report.folder import written_whole
from rawcnn.report.page import Chapter, Facts, Page, Section
from rawcnn.report.progress import Report, silent
from rawcnn.report.sections import (
    adversarial,
    fooling,
    inside,
    levels,
    papers,
    race,
    training,
    visualization,
    zoo,
)
from rawcnn.report.sections import (
    provenance as made,
)
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training

EPOCHS = 24  # of the digits, about a minute on two cores
NETWORK = "cifar_resnet20"


@dataclass
class Clock:
    """What took how long, and who is told of it."""

    report: Report
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str, total: int = 1) -> Iterator[Progress]:
        """Time a step; gives a function (done, total) to call on the way."""
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


@dataclass(frozen=True)
class Given:
    """A network of the user's, and images that it knows."""

    network: Network
    data: DataSet
    weights: str  # the file's name

    @property
    def words(self) -> str:
        """How the command line asks for it."""
        return f"--weights {self.weights} --model {self.network.name} --data {self.data.name}"


@dataclass(frozen=True)
class Look:
    """What a network looks for: real images, and everything else about its last maps."""

    network: Network
    data: DataSet
    seen: visualization.Seen
    inside: inside.Inside

    @classmethod
    def into(cls, network: Network, data: DataSet, clock: Clock, seed: int, whose: str = "") -> Look:
        with clock.step(f"Find what excites the network{whose}") as report:
            seen = visualization.look(network, data, report)
        layer = list(seen.layers)[-1]
        with clock.step(f"Look inside the network{whose}") as report:
            found = inside.look_inside(network, data, seen.shown(layer), layer, seed=seed, progress=report)
        return cls(network, data, seen, found)

    def sections(self, album: Album) -> tuple[Section, ...]:
        return (
            visualization.most_activating(self.seen, self.network, self.data, album),
            *inside.sections(self.inside, self.data.labels, album),
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "network": self.network.name,
            "data": self.data.name,
            "top_inputs": self.seen.to_dict(),
            "inside": self.inside.to_dict(),
        }


def run(
    folder: str | Path = "tour",
    *,
    seed: int = 0,
    progress: Report | None = None,
    epochs: int = EPOCHS,
    race: bool = True,
    given: Given | None = None,
) -> dict[str, object]:
    """Take the tour and write `folder`/index.html, its pictures and tour.json; gives what is in tour.json.

    The network that is trained on the way is looked into; a `given` one is, too, in a chapter of its own.

    `progress(step, done, total)` is told how it goes (`rawcnn.report.progress.bars` shows it). The folder changes only
    when all is done. Raises ValueError where it cannot be written, and TrainingFailed where the loss is no number.
    """
    command = f"rawcnn tour --seed {seed} --epochs {epochs} --{'race' if race else 'no-race'}"
    command += f" {given.words}" if given else ""
    with written_whole(folder) as beside:
        page, results = take(Album(beside), Clock(progress or silent), seed, epochs, race, command, given)
        text = json.dumps(results, indent=1, allow_nan=False)
        (beside / "tour.json").write_text(text, encoding="utf-8")
        (beside / "index.html").write_text(page.render(), encoding="utf-8")
    return json.loads(text)


def take(
    album: Album, clock: Clock, seed: int, epochs: int, with_race: bool, command: str, given: Given | None = None
) -> tuple[Page, dict[str, object]]:
    """Every step of the tour: the page, whose pictures are in the album, and the results as plain values."""
    comparisons, profiles = count(clock)
    stacks = [lecture.stack(sizes) for sizes in ((7,), (3, 3, 3), (5,), (3, 3))]
    with clock.step("Time naive and reduced inception modules") as report:
        modules = lecture.race_inception(batch=papers.BATCH, progress=report)
    trained = train(clock, seed, epochs)
    images, labels = trained.data.arrays("test")
    looks = [Look.into(trained.network, trained.data, clock, seed)]
    if given:
        looks.append(Look.into(given.network, given.data, clock, seed, f", {given.network.name} of the given weights"))
    with clock.step("Fool the network") as report:
        attacks = adversarial.attack_series(trained.network, images, labels, seed=seed, progress=report)
        chosen = adversarial.choose(attacks)
    with clock.step("Fool it in every other way") as report:
        training_images, _ = trained.data.arrays("train")
        fooled = fooling.fool(trained.network, training_images, images, labels, seed=seed, progress=report)
    levelled = fool_levels(clock, seed, epochs)
    races = race_keras(clock) if with_race else []

    names = trained.data.labels
    with clock.step("Draw the page", 4) as report:
        chapters = [
            Chapter(
                "Architectures",
                (*papers.sections(comparisons, profiles, stacks, modules, album), training.digits(trained, album)),
                "Each network is one function that reads like its paper's table. What it costs is counted from that "
                "function as it runs, and compared with what its paper printed.",
            )
        ]
        report(1, 4)
        chapters.append(
            Chapter(
                "The family",
                tuple(zoo.sections(profiles, album)),
                "What came from what, what it costs, and how it is built.",
            )
        )
        report(2, 4)
        chapters.append(
            Chapter(
                "Feature visualization",
                (visualization.first_filters(trained.network, trained.data, album), *looks[0].sections(album)),
                "What the parts of the digits network look for.",
            )
        )
        if given:
            sections = looks[1].sections(Album(album.folder, "given-"))
            chapters.append(Chapter(f"Inside {given.network.name}", sections, f"What {given.weights} look for."))
        report(3, 4)
        chapters.append(
            Chapter(
                "Adversarial examples",
                (
                    fooling.unrecognizable(fooled, names, album),
                    adversarial.fast_gradient_sign(attacks[0], chosen, names, album),
                    fooling.nearest_boundary(fooled, chosen[:2], names, album),
                    adversarial.projected_gradient(attacks[1], chosen[:2], names, album),
                    levels.section(levelled, names, album),
                    adversarial.strength([*attacks, *fooled.lines], album),
                    fooling.black_box(fooled),
                    fooling.sticker(fooled, names, album),
                    fooling.turned(fooled, names, album),
                ),
                "Images, noise, a sticker and turns that make the same network wrong.",
            )
        )
        if races:
            chapters.append(Chapter("What Keras costs", (race.section(races, album),)))
    settings = {"network": NETWORK, "recipe": trained.recipe.name, "epochs": epochs}
    circumstances = made.circumstances(command, seed, settings)
    chapters.append(Chapter("How this page was made", (made.section(circumstances, clock.seconds),)))

    results: dict[str, object] = {
        "made": circumstances,
        "papers": {name: comparison.to_dict() for name, comparison in comparisons.items()},
        "profiles": {name: {"totals": p.totals, "size": p.size} for name, p in profiles.items()},
        "kernels": [vars(s) for s in stacks],
        "inception": [m.to_dict() for m in modules],
        "training": trained.to_dict(),
        "visualization": [look.to_dict() for look in looks],
        "attacks": [series.to_dict() for series in attacks],
        "fooled": fooled.to_dict(),
        "levels": levelled.to_dict(),
        "races": races,
        "seconds": clock.seconds,
    }
    return Page(
        "The convolutional network with the lid off",
        "The networks from AlexNet to NASNet as plain tensor code: counted against their papers and drawn; a small one "
        "trained, looked into and fooled. Everything on this page was computed by the command that wrote it.",
        tuple(chapters),
        headline(comparisons, trained, attacks, races),
        f"Made by rawcnn {rawcnn.__version__} with `{command}`, seed {seed}, on {circumstances['made']}.",
    ), results


def count(clock: Clock) -> tuple[dict[str, Comparison], dict[str, Profile]]:
    """The papers' tables, and the profiles of the networks that are shown."""
    shown = [name for family in papers.FAMILIES.values() for name in family] + [row.model for row in ERRORS]
    names = list(dict.fromkeys(shown))
    with clock.step("Count what the papers count", len(PAPERS) + len(names)) as report:
        total = len(PAPERS) + len(names)
        comparisons, profiles = {}, {}
        for number, paper in enumerate(PAPERS):
            comparisons[paper] = compare(paper)
            report(number + 1, total)
        for number, name in enumerate(names):
            profiles[name] = profiled(name)
            report(len(PAPERS) + number + 1, total)
    return comparisons, profiles


def train(clock: Clock, seed: int, epochs: int, reading: str = "", **options: Any) -> training.Trained:
    """A residual network, with a model's own `options`, trained on the digits and evaluated."""
    digits, title = data.load("digits"), f"Train {NETWORK} on the digits{reading}"
    network = rawcnn.create(NETWORK, classes=len(digits.labels), seed=seed, size=digits.size[0], **options)
    network.labels = digits.labels
    recipe = replace(RECIPES["digits"], epochs=epochs)
    run = Training(network, recipe, seed=seed)
    steps = run.steps(digits)
    with clock.step(title, epochs * steps) as report:
        run.fit(digits, on_step=lambda step, _, metrics: report(run.epoch * steps + step, epochs * steps))
    with clock.step(f"Evaluate it{reading}") as report:
        evaluation = evaluate(network, digits, progress=report)
    return training.Trained(network, digits, recipe, run.history, evaluation, clock.seconds[title])


def fool_levels(clock: Clock, seed: int, epochs: int) -> levels.Levelled:
    """A network that reads levels, trained for no longer than its twin of pixels, and fooled."""
    trained = train(
        clock, seed, min(epochs, levels.EPOCHS), " as levels", discretize="thermometer", levels=levels.LEVELS
    )
    with clock.step("Fool the network of levels") as report:
        return levels.fool(trained.network, *trained.data.arrays("test"), seed=seed, progress=report)


def race_keras(clock: Clock) -> list[dict[str, object]]:
    """A network's inference and training step against Keras's."""
    from benchmarks.run import tour_race  # Keras is imported for this alone

    with clock.step("Race against Keras") as report:
        finished = 0  # races: each counts its own steps

        def told(_: str, done: int, total: int) -> None:
            nonlocal finished
            report(finished * total + done, 2 * total)
            finished += done == total

        return [result.to_json() for result in tour_race(told)]


def headline(comparisons, trained: training.Trained, attacks, races) -> Facts:
    """The numbers to read first."""
    lines = [line for comparison in comparisons.values() for line in comparison.lines]
    fooled = attacks[1].median_smallest
    items = [
        (
            f"{sum(line.agrees for line in lines)} of {len(lines)}",
            "printed numbers agree with our counts; the others are explained, or said to be unexplained",
        ),
        (f"{trained.evaluation.accuracy:.1%}", f"of {trained.evaluation.count} test digits read correctly"),
        (f"{fooled:g}" if fooled != float("inf") else "> 0.24", "is the ε at which PGD fools half of them"),
    ]
    if speed := race.headline(races):
        items.append(speed)
    return Facts(tuple(items))
