"""The tour: the lecture's three chapters on one page that works offline, computed in a few minutes on two cores.

It profiles the networks and compares them with their papers' tables, and draws them. It trains a small residual network
on scikit-learn's digits, evaluates it, visualizes its features, attacks it, and races a network against Keras. It
downloads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rawcnn import __version__
from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.chapters import NETWORK, Adversarial, Architectures, Visualization, race_keras, train
from rawcnn.report.folder import report_folder
from rawcnn.report.page import Chapter, Facts, Page
from rawcnn.report.progress import Clock, StepReport, silent
from rawcnn.report.sections import provenance, race
from rawcnn.report.sections.training import Trained

EPOCHS = 24  # of the digits, about a minute on two cores


@dataclass(frozen=True)
class UserNetwork:
    """A user's network, and images of its classes."""

    network: Network
    data: DataSet
    weights: str  # name of the file

    @property
    def options(self) -> str:
        """The options of the command line that select this network."""
        return f"--weights {self.weights} --model {self.network.name} --data {self.data.name}"


@dataclass(frozen=True)
class Settings:
    """The settings of a tour."""

    seed: int
    epochs: int
    race: bool
    user: UserNetwork | None

    @property
    def command(self) -> str:
        """The command that makes the same tour."""
        command = f"rawcnn tour --seed {self.seed} --epochs {self.epochs} --{'race' if self.race else 'no-race'}"
        return f"{command} {self.user.options}" if self.user else command


@dataclass(frozen=True)
class TourResults:
    """Everything that a tour computes."""

    architectures: Architectures
    trained: Trained
    visualizations: list[Visualization]  # of the trained network, then of the user's
    adversarial: Adversarial
    races: list[dict[str, object]]

    def to_dict(self) -> dict[str, object]:
        return {
            **self.architectures.to_dict(),
            "training": self.trained.to_dict(),
            "visualization": [found.to_dict() for found in self.visualizations],
            **self.adversarial.to_dict(),
            "races": self.races,
        }


def run(
    folder: str | Path = "tour",
    *,
    seed: int = 0,
    progress: StepReport | None = None,
    epochs: int = EPOCHS,
    race: bool = True,
    user: UserNetwork | None = None,
) -> dict[str, object]:
    """Take the tour, and write index.html, its pictures and tour.json.

    Args:
        folder: The folder to write. It changes only when everything is complete.
        seed: Seed of the training and of the attacks.
        progress: Is called with (step, done, total). `rawcnn.report.progress.bars` shows it.
        epochs: Length of the training.
        race: Race a network against Keras.
        user: A network that is visualized in a chapter of its own, in addition to the trained one.

    Returns:
        The content of tour.json.

    Raises:
        ValueError: The folder cannot be written.
        TrainingFailed: The loss is not finite.
    """
    settings = Settings(seed, epochs, race, user)
    with report_folder(folder) as temporary:
        page, results = take(Album(temporary), Clock(progress or silent), settings)
        text = json.dumps(results, indent=1, allow_nan=False)
        (temporary / "tour.json").write_text(text, encoding="utf-8")
        (temporary / "index.html").write_text(page.render(), encoding="utf-8")
    return json.loads(text)


def take(album: Album, clock: Clock, settings: Settings) -> tuple[Page, dict[str, object]]:
    """Return the page, whose pictures are in the album, and the results as plain values."""
    found = compute(clock, settings)
    chapters = render(found, album, clock, settings)
    recipe = found.trained.recipe.name
    details = {"network": NETWORK, "recipe": recipe, "epochs": settings.epochs}
    circumstances = provenance.circumstances(settings.command, settings.seed, details)
    chapters.append(Chapter("How this page was made", (provenance.section(circumstances, clock.seconds),)))
    page = Page(
        "How a convolutional network works",
        "The networks from AlexNet to NASNet as plain tensor code. They are drawn, and their costs are compared with "
        "their papers. A small network is trained, visualized and attacked. The command that wrote this page computed "
        "everything on it.",
        tuple(chapters),
        headline(found),
        f"Made by rawcnn {__version__} with `{settings.command}`, seed {settings.seed}, on {circumstances['made']}.",
    )
    return page, {"made": circumstances, **found.to_dict(), "seconds": clock.seconds}


def compute(clock: Clock, settings: Settings) -> TourResults:
    """Compute all chapters, step by step."""
    architectures = Architectures.compute(clock)
    trained = train(clock, settings.seed, settings.epochs)
    visualizations = [Visualization.compute(trained.network, trained.data, clock, settings.seed)]
    if user := settings.user:
        suffix = f", {user.network.name} of the given weights"
        visualizations.append(Visualization.compute(user.network, user.data, clock, settings.seed, suffix))
    attacks = Adversarial.compute(trained, clock, settings.seed, settings.epochs)
    races = race_keras(clock) if settings.race else []
    return TourResults(architectures, trained, visualizations, attacks, races)


def render(found: TourResults, album: Album, clock: Clock, settings: Settings) -> list[Chapter]:
    """Draw the pictures into the album, and return all chapters except the last."""
    with clock.step("Draw the page", 4) as report:
        chapters = [found.architectures.render(found.trained, album)]
        report(1, 4)
        chapters.append(found.architectures.render_family(album))
        report(2, 4)
        chapters.append(found.visualizations[0].render(album))
        if settings.user:
            user_album = Album(album.folder, "given-")
            chapters.append(found.visualizations[1].render_user(user_album, settings.user.weights))
        report(3, 4)
        chapters.append(found.adversarial.render(found.trained.data.labels, album))
        if found.races:
            chapters.append(Chapter("What Keras costs", (race.section(found.races, album),)))
    return chapters


def headline(found: TourResults) -> Facts:
    """Return the most important numbers."""
    lines = [line for comparison in found.architectures.comparisons.values() for line in comparison.lines]
    evaluation = found.trained.evaluation
    iterated = found.adversarial.attacks[1].median_smallest
    items = [
        (
            f"{sum(line.agrees for line in lines)} of {len(lines)}",
            "printed numbers agree with our counts; each other one is explained, or marked as unexplained",
        ),
        (f"{evaluation.accuracy:.1%}", f"of {evaluation.count} test digits are classified correctly"),
        (f"{iterated:g}" if iterated != float("inf") else "> 0.24", "is the ε at which PGD fools half of them"),
    ]
    races: list[Mapping] = list(found.races)
    if speed := race.headline(races):
        items.append(speed)
    return Facts(tuple(items))
