"""The chapters of the tour. Each class computes a chapter, renders it, and returns its results as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rawcnn import data
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.nn.network import Network
from rawcnn.papers import PAPERS, Comparison, compare, profiled
from rawcnn.papers.imagenet_errors import ERRORS
from rawcnn.profiling.costs import Profile
from rawcnn.report import kernel_claims
from rawcnn.report.album import Album
from rawcnn.report.page import Chapter, Section
from rawcnn.report.pooled import LAYER, has_switches, train_pooled
from rawcnn.report.progress import Clock
from rawcnn.report.sections import adversarial, fooling, inside, levels, papers, training, visualization, zoo
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training
from rawcnn.visualize import TopInput, top_inputs
from rawcnn.zoo import create

NETWORK = "cifar_resnet20"
STACKS = ((7,), (3, 3, 3), (5,), (3, 3))  # sizes of the filters that are stacked


@dataclass(frozen=True)
class Architectures:
    """The costs of the networks, compared with their papers' tables."""

    comparisons: dict[str, Comparison]
    profiles: dict[str, Profile]
    stacks: Sequence[kernel_claims.Stack]
    modules: Sequence[kernel_claims.Module]

    @classmethod
    def compute(cls, clock: Clock) -> Architectures:
        """Count the networks, and time GoogLeNet's modules."""
        comparisons, profiles = count(clock)
        stacks = [kernel_claims.stack(sizes) for sizes in STACKS]
        with clock.step("Time naive and reduced inception modules") as report:
            modules = kernel_claims.race_inception(batch=papers.BATCH, progress=report)
        return cls(comparisons, profiles, stacks, modules)

    def render(self, trained: training.Trained, album: Album) -> Chapter:
        """Return the chapter. Its last section is about the trained network."""
        sections = papers.sections(self.comparisons, self.profiles, self.stacks, self.modules, album)
        return Chapter(
            "Architectures",
            (*sections, training.digits(trained, album)),
            "Each network is one function that reads like its paper's table. rawcnn counts the costs by tracing that "
            "function, and compares them with the printed costs.",
        )

    def render_family(self, album: Album) -> Chapter:
        """Return the chapter with the family tree and the diagrams."""
        lead = "How the networks descend from each other, what they cost, and how they are built."
        return Chapter("The family", tuple(zoo.sections(self.profiles, album)), lead)

    def to_dict(self) -> dict[str, object]:
        return {
            "papers": {name: comparison.to_dict() for name, comparison in self.comparisons.items()},
            "profiles": {name: {"totals": p.totals, "size": p.size} for name, p in self.profiles.items()},
            "kernels": [vars(s) for s in self.stacks],
            "inception": [m.to_dict() for m in self.modules],
        }


@dataclass(frozen=True)
class Visualization:
    """What a network detects: its top inputs in three layers, and further techniques on the last of these."""

    network: Network
    data: DataSet
    tops: visualization.TopInputs
    inside: inside.Inside

    @classmethod
    def compute(cls, network: Network, data: DataSet, clock: Clock, seed: int, suffix: str = "") -> Visualization:
        """Visualize a network. `suffix` follows the names of the steps."""
        with clock.step(f"Find what excites the network{suffix}") as report:
            tops = visualization.find_top_inputs(network, data, report)
        layer = list(tops.layers)[-1]
        pooled = None if suffix or has_switches(network) else _pooled(data, clock, seed)
        with clock.step(f"Look inside the network{suffix}") as report:
            found = inside.look_inside(
                network, data, tops.shown(layer), layer, seed=seed, progress=report, pooled=pooled
            )
        return cls(network, data, tops, found)

    def render(self, album: Album) -> Chapter:
        """Return the chapter about the trained network, which begins with its first filters."""
        filters = visualization.first_filters(self.network, self.data, album)
        lead = "What the parts of the digits network detect."
        return Chapter("Feature visualization", (filters, *self.sections(album)), lead)

    def render_user(self, album: Album, weights: str) -> Chapter:
        """Return the chapter about a user's network."""
        return Chapter(f"Inside {self.network.name}", self.sections(album), f"What {weights} detects.")

    def sections(self, album: Album) -> tuple[Section, ...]:
        return (
            visualization.most_activating(self.tops, self.network, self.data, album),
            *inside.sections(self.inside, self.data.labels, album),
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "network": self.network.name,
            "data": self.data.name,
            "top_inputs": self.tops.to_dict(),
            "inside": self.inside.to_dict(),
        }


@dataclass(frozen=True)
class Adversarial:
    """Attacks on the trained network."""

    attacks: Sequence[adversarial.Series]  # FGSM and PGD
    chosen: Sequence[int]  # numbers of the test images that are shown
    fooled: fooling.Fooled
    leveled: levels.Leveled

    @classmethod
    def compute(cls, trained: training.Trained, clock: Clock, seed: int, epochs: int) -> Adversarial:
        """Attack the trained network, and a second network that reads levels, trained for at most `epochs`."""
        images, labels = trained.data.arrays("test")
        with clock.step("Fool the network") as report:
            attacks = adversarial.attack_series(trained.network, images, labels, seed=seed, progress=report)
            chosen = adversarial.choose(attacks)
        with clock.step("Fool it in every other way") as report:
            training_images, _ = trained.data.arrays("train")
            fooled = fooling.fool(trained.network, training_images, images, labels, seed=seed, progress=report)
        return cls(attacks, chosen, fooled, fool_levels(clock, seed, epochs))

    def render(self, labels: Sequence[str], album: Album) -> Chapter:
        """Return the chapter. `labels` names the classes."""
        fast, iterated = self.attacks
        return Chapter(
            "Adversarial examples",
            (
                fooling.unrecognizable(self.fooled, labels, album),
                adversarial.fast_gradient_sign(fast, self.chosen, labels, album),
                fooling.nearest_boundary(self.fooled, self.chosen[:2], labels, album),
                adversarial.projected_gradient(iterated, self.chosen[:2], labels, album),
                levels.section(self.leveled, labels, album),
                adversarial.strength([*self.attacks, *self.fooled.lines], album),
                fooling.black_box(self.fooled),
                fooling.sticker(self.fooled, labels, album),
                fooling.turned(self.fooled, labels, album),
            ),
            "Images, noise, a patch and rotations that the same network misclassifies.",
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "attacks": [series.to_dict() for series in self.attacks],
            "fooled": self.fooled.to_dict(),
            "levels": self.leveled.to_dict(),
        }


def _pooled(data: DataSet, clock: Clock, seed: int) -> tuple[Network, str, dict[int, list[TopInput]]]:
    """Train a small network with max-pools; return it, the layer to deconvolve, and top inputs of its channels."""
    with clock.step("Train a small network with max-pools") as report:
        network = train_pooled(data, seed, report)
    tops = top_inputs(network, data, LAYER, count=visualization.COUNT)
    return network, LAYER, visualization.TopInputs({LAYER: tops}).shown(LAYER)


def count(clock: Clock) -> tuple[dict[str, Comparison], dict[str, Profile]]:
    """Return the comparisons with the papers, and the profiles of all networks that are shown."""
    shown = [name for family in papers.FAMILIES.values() for name in family] + [row.model for row in ERRORS]
    names = list(dict.fromkeys(shown))
    total = len(PAPERS) + len(names)
    with clock.step("Count what the papers count", total) as report:
        comparisons, profiles = {}, {}
        for number, paper in enumerate(PAPERS):
            comparisons[paper] = compare(paper)
            report(number + 1, total)
        for number, name in enumerate(names):
            profiles[name] = profiled(name)
            report(len(PAPERS) + number + 1, total)
    return comparisons, profiles


def train(clock: Clock, seed: int, epochs: int, suffix: str = "", **options: Any) -> training.Trained:
    """Train a residual network on the digits, and evaluate it.

    Args:
        clock: Times the steps.
        seed: Seed of the initial values and of the data's order.
        epochs: Length of the training.
        suffix: Follows the names of the steps.
        **options: The model's options.
    """
    digits, title = data.load("digits"), f"Train {NETWORK} on the digits{suffix}"
    network = create(NETWORK, classes=len(digits.labels), seed=seed, size=digits.size[0], **options)
    network.labels = digits.labels
    recipe = replace(RECIPES["digits"], epochs=epochs)
    run = Training(network, recipe, seed=seed)
    steps = run.batches(digits).steps
    with clock.step(title, epochs * steps) as report:
        run.fit(digits, on_step=lambda step, _, metrics: report(run.epoch * steps + step, epochs * steps))
    with clock.step(f"Evaluate it{suffix}") as report:
        evaluation = evaluate(network, digits, progress=report)
    return training.Trained(network, digits, recipe, run.history, evaluation, clock.seconds[title])


def fool_levels(clock: Clock, seed: int, epochs: int) -> levels.Leveled:
    """Train a network that reads levels for at most `epochs`, and attack it."""
    options: dict[str, Any] = {"discretize": "thermometer", "levels": levels.LEVELS}
    trained = train(clock, seed, min(epochs, levels.EPOCHS), " as levels", **options)
    with clock.step("Fool the network of levels") as report:
        return levels.fool(trained.network, *trained.data.arrays("test"), seed=seed, progress=report)


def race_keras(clock: Clock) -> list[dict[str, object]]:
    """Race a network's inference and training step against Keras's."""
    from benchmarks.run import tour_race  # the only import of Keras

    with clock.step("Race against Keras") as report:
        finished = 0  # races; each counts its own steps

        def report_race(_: str, done: int, total: int) -> None:
            nonlocal finished
            report(finished * total + done, 2 * total)
            finished += done == total

        return [result.to_json() for result in tour_race(report_race)]
