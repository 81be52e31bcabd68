"""Chapter 3: a residual network learns to read digits, within a minute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rawcnn import data
from rawcnn.evaluation.accuracy import evaluate
from rawcnn.report.album import Album
from rawcnn.report.page import Chapter
from rawcnn.report.progress import Clock
from rawcnn.report.sections import training
from rawcnn.report.sections.training import Trained
from rawcnn.training.recipes import RECIPES
from rawcnn.training.trainer import Training
from rawcnn.zoo import create

NETWORK = "cifar_resnet20"


def train(clock: Clock, seed: int, epochs: int, suffix: str = "", **options: Any) -> Trained:
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
    return Trained(network, digits, recipe, run.history, evaluation, clock.seconds[title])


def render(trained: Trained, album: Album) -> Chapter:
    """Return the chapter."""
    lead = "The same step that trains the networks of the papers trains a small one here."
    return Chapter("Training", (training.digits(trained, album),), lead)
