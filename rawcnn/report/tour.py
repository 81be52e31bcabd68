"""The tour: the lecture on one page that works offline, computed in a few minutes on two cores.

A photograph passes through a network. The networks of the papers are drawn and counted. A small residual network is
trained on scikit-learn's digits. VGG-16 is visualized on photographs, and the trained network is attacked. The appendix
has the papers' tables and a race against Keras. The tour downloads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rawcnn import __version__
from rawcnn.data import DataSet
from rawcnn.nn.network import Network
from rawcnn.report.album import Album
from rawcnn.report.chapters import appendix, training, visualization
from rawcnn.report.chapters.architectures import Architectures
from rawcnn.report.chapters.fooling import Fooling
from rawcnn.report.chapters.one_image import OneImage
from rawcnn.report.chapters.real_network import RealNetwork, find_real_network
from rawcnn.report.chapters.training import NETWORK, train
from rawcnn.report.chapters.visualization import OfClassifier, OfDigits, OfPhotographs
from rawcnn.report.folder import report_folder
from rawcnn.report.page import Chapter, Facts, Page, Strips
from rawcnn.report.progress import Clock, StepReport, silent
from rawcnn.report.sections import optimization, provenance
from rawcnn.report.sections.architectures import line_of
from rawcnn.report.sections.optimization import Effort
from rawcnn.report.sections.race import Race
from rawcnn.report.sections.training import Trained

EPOCHS = 24  # of the digits, about a minute on two cores
LIVE = Effort(size=64, steps=64)  # of images that are optimized for VGG-16
FULL = Effort(size=128, steps=512)


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
    full: bool
    real: RealNetwork

    @property
    def effort(self) -> Effort:
        """How much is computed for each optimized image."""
        return FULL if self.full else LIVE

    @property
    def command(self) -> str:
        """The command that makes the same tour."""
        command = f"rawcnn tour --seed {self.seed} --epochs {self.epochs} --{'race' if self.race else 'no-race'}"
        command += " --full" if self.full else ""
        return f"{command} {self.user.options}" if self.user else command


@dataclass(frozen=True)
class TourResults:
    """Everything that a tour computes, chapter by chapter."""

    one_image: OneImage
    architectures: Architectures
    trained: Trained
    photographs: OfPhotographs | None  # None without VGG-16
    digits: OfDigits | OfClassifier
    user: OfClassifier | None
    fooling: Fooling
    races: Sequence[Race]

    def to_dict(self) -> dict[str, object]:
        visualizations = [found for found in (self.photographs, self.digits, self.user) if found]
        return {
            "one_image": self.one_image.to_dict(),
            **self.architectures.to_dict(),
            "training": self.trained.to_dict(),
            "visualization": [found.to_dict() for found in visualizations],
            **self.fooling.to_dict(),
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
    full: bool = False,
    real: RealNetwork | None = None,
) -> dict[str, object]:
    """Take the tour, and write index.html, its pictures and tour.json.

    Args:
        folder: The folder to write. It changes only when everything is complete.
        seed: Seed of the training and of the attacks.
        progress: Is called with (step, done, total). `rawcnn.report.progress.bars` shows it.
        epochs: Length of the training.
        race: Race a network against Keras.
        user: A network that is visualized in a chapter of its own, in addition to the others.
        full: Optimize images for longer and at a larger size.
        real: The network of the photographs; by default VGG-16 if it is installed, else AlexNet with random weights.

    Returns:
        The content of tour.json.

    Raises:
        ValueError: The folder cannot be written.
        TrainingFailed: The loss is not finite.
    """
    settings = Settings(seed, epochs, race, user, full, real or find_real_network())
    with report_folder(folder) as temporary:
        page, results = take(Album(temporary), Clock(progress or silent), settings)
        text = json.dumps(results, indent=1, allow_nan=False)
        (temporary / "tour.json").write_text(text, encoding="utf-8")
        (temporary / "index.html").write_text(page.render(), encoding="utf-8")
    return json.loads(text)


def take(album: Album, clock: Clock, settings: Settings) -> tuple[Page, dict[str, object]]:
    """Return the page, whose pictures are in the album, and the results as plain values."""
    found = compute(clock, settings)
    with clock.step("Draw the page"):
        chapters = render(found, album, settings)
    details = {"network": NETWORK, "recipe": found.trained.recipe.name, "epochs": settings.epochs}
    details |= {"network of the photographs": settings.real.model, "its weights": settings.real.weights or "random"}
    circumstances = provenance.circumstances(settings.command, settings.seed, details)
    chapters.append(appendix.render(found.architectures, found.races, circumstances, clock.seconds, album))
    page = Page(
        "How a convolutional network works",
        "What a network computes, what its parts detect, and what fools it. The command that wrote this page computed "
        "everything on it.",
        tuple(chapters),
        headline(found),
        f"Made by rawcnn {__version__} with `{settings.command}`, seed {settings.seed}, on {circumstances['made']}.",
        opening=(opening(found, album),),
    )
    return page, {"made": circumstances, **found.to_dict(), "seconds": clock.seconds}


def compute(clock: Clock, settings: Settings) -> TourResults:
    """Compute all chapters, step by step."""
    seed, real = settings.seed, settings.real
    one_image = OneImage.compute(real, clock)
    architectures = Architectures.compute(clock, seed)
    trained = train(clock, seed, settings.epochs)
    photographs, digits = visualize(trained, clock, settings)
    user = visualize_user(settings.user, clock, seed) if settings.user else None
    fooling = Fooling.compute(trained, clock, seed, settings.epochs)
    races = appendix.race_keras(clock) if settings.race else []
    return TourResults(one_image, architectures, trained, photographs, digits, user, fooling, races)


def visualize(
    trained: Trained, clock: Clock, settings: Settings
) -> tuple[OfPhotographs | None, OfDigits | OfClassifier]:
    """Visualize VGG-16 and the trained network; without VGG-16, the trained network by every technique."""
    network, data, seed = trained.network, trained.data, settings.seed
    if settings.real.weights is None:
        return None, OfClassifier.compute(network, data, clock, seed)
    photographs = OfPhotographs.compute(settings.real, settings.effort, clock, seed)
    return photographs, OfDigits.compute(network, data, photographs, clock, seed)


def visualize_user(user: UserNetwork, clock: Clock, seed: int) -> OfClassifier:
    """Visualize a user's network."""
    return OfClassifier.compute(user.network, user.data, clock, seed, f", {user.network.name} of the given weights")


def render(found: TourResults, album: Album, settings: Settings) -> list[Chapter]:
    """Draw the pictures into the album, and return all chapters except the appendix."""
    chapters = [
        found.one_image.render(album),
        found.architectures.render(album),
        training.render(found.trained, album),
        visualization.render(found.photographs, found.digits, album),
    ]
    if found.user and settings.user:
        chapters.append(visualization.render_user(found.user, settings.user.weights, Album(album.folder, "given-")))
    chapters.append(found.fooling.render(found.trained.data.labels, album))
    return chapters


def opening(found: TourResults, album: Album) -> Strips:
    """Return the first picture: a photograph, and what VGG-16 detects by depth, or else the maps of the photograph."""
    one = found.one_image
    if found.photographs is None:
        return one.opening(album)
    return optimization.overview(found.photographs.rows, one.maps.image, one.photograph.name, album)


def headline(found: TourResults) -> Facts:
    """Return the most important numbers."""
    alexnet = line_of(found.architectures.comparisons["alexnet"], "whole network", "parameters")
    evaluation = found.trained.evaluation
    iterated = found.fooling.attacks[1].median_smallest
    return Facts(
        (
            (f"{alexnet.counted:,.0f}", f"parameters of AlexNet, counted; the paper prints {alexnet.printed}"),
            (f"{evaluation.accuracy:.1%}", f"of {evaluation.count} test digits are classified correctly"),
            (f"{iterated:g}" if iterated != float("inf") else "> 0.24", "is the ε at which PGD fools half of them"),
        )
    )
