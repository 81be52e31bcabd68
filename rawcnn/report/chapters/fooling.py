"""Chapter 5: images, noise, a patch and rotations that fool the trained network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rawcnn.report.album import Album
from rawcnn.report.chapters.training import train
from rawcnn.report.page import Chapter
from rawcnn.report.progress import Clock
from rawcnn.report.sections import adversarial, fooling, levels, training


@dataclass(frozen=True)
class Fooling:
    """Attacks on the trained network."""

    attacks: Sequence[adversarial.Series]  # FGSM and PGD
    chosen: Sequence[int]  # numbers of the test images that are shown
    fooled: fooling.Fooled
    leveled: levels.Leveled

    @classmethod
    def compute(cls, trained: training.Trained, clock: Clock, seed: int, epochs: int) -> Fooling:
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
            "Fooling deep neural networks",
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
            "Images, noise, a patch and rotations that the network of chapter 3 misclassifies.",
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "attacks": [series.to_dict() for series in self.attacks],
            "fooled": self.fooled.to_dict(),
            "levels": self.leveled.to_dict(),
        }


def fool_levels(clock: Clock, seed: int, epochs: int) -> levels.Leveled:
    """Train a network that reads levels for at most `epochs`, and attack it."""
    options: dict[str, Any] = {"discretize": "thermometer", "levels": levels.LEVELS}
    trained = train(clock, seed, min(epochs, levels.EPOCHS), " as levels", **options)
    with clock.step("Fool the network of levels") as report:
        return levels.fool(trained.network, *trained.data.arrays("test"), seed=seed, progress=report)
