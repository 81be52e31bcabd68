"""A training run as the command line uses it: the recipe that suits a model, and the files in the run's folder.

checkpoints/          the two newest, to resume from
events/               TensorBoard
history.json          a summary for each epoch; with a validation split, the last one has the test figures, too
curves.png            the same, drawn
microscope.npz        values per epoch and layer, with `microscope`; the command line draws a page of them, microscope/
weights.safetensors   the result, with what is needed to create the network again
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.files.atomic import write_atomic
from rawcnn.files.locks import exclusive_folder
from rawcnn.models import find_model
from rawcnn.nn.arguments import Size, image_size, short_size
from rawcnn.nn.network import Network
from rawcnn.training.distributed import Cluster, SingleDevice
from rawcnn.training.microscope import Microscope
from rawcnn.training.observations import FILE
from rawcnn.training.recipes import Recipe, find_recipe
from rawcnn.training.resume import data_identity
from rawcnn.training.step import Adversary
from rawcnn.training.tensorboard import DrawFilters, Events
from rawcnn.training.trainer import SAVE_EVERY, Training
from rawcnn.training.validation import watched_split
from rawcnn.weights import save_weights
from rawcnn.zoo import create

# The default recipe by the beginning of the model's name: that of its paper; for CIFAR networks one with few epochs.
DEFAULT_RECIPE = {
    "alexnet": "alexnet2012",
    "vgg": "vgg2014",
    "googlenet": "googlenet2014",
    "resnet": "resnet2015",
    "plain": "resnet2015",
    "cifar_": "onecycle",
    "inception_v2": "bn_inception2015",
    "inception_": "inception_v3_2015",
    "resnext": "resnext2016",
    "se_": "senet2017",
    "senet": "senet2017",
    "nasnet": "nasnet2017",
}
STORED = 256 / 224  # images are stored this much larger than the crops that are cut from them (AlexNet, section 4.1)


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        model: The name of the model.
        recipe: The recipe, scaled to the size of the network.
        size: The side of the network's images in pixels, or (height, width); None: that of the data set.
        data_size: The size to which the data set is scaled in pixels; None: as it is.
        options: The model's own options.
        adversary: Replaces the images of each step by attacked ones.
    """

    model: str
    recipe: Recipe
    size: Size | None
    data_size: Size | None
    options: Mapping[str, Any]
    adversary: Adversary | None = None

    def network(self, data: DataSet, seed: int, precision: str) -> Network:
        """Create the network for the classes of a data set."""
        size = self.size or data.size
        network = create(
            self.model, classes=len(data.labels), seed=seed, size=size, precision=precision, **self.options
        )
        network.labels = tuple(data.labels)
        return network

    def training(
        self,
        data: DataSet,
        folder: Path,
        *,
        seed: int,
        precision: str,
        compile: str,
        save_every: float = SAVE_EVERY,
        fresh: bool = False,
        cluster: Cluster | None = None,
    ) -> Training:
        """Return the run, resumed from its newest checkpoint.

        Args:
            data: The data set.
            folder: The folder of the run.
            seed: The seed of the variables and of the training.
            precision: "float32", "bfloat16" or "float64".
            compile: How the step runs.
            save_every: Seconds between two checkpoints within an epoch.
            fresh: Delete what an earlier run left in the folder. Its weights stay until there are new ones.
            cluster: The devices that share the run; None for one device.

        Raises:
            ValueError: The run cannot be trained on this data, the checkpoints are another run's, or the workers of a
                cluster differ in settings or folder.
        """
        devices = cluster or SingleDevice()
        with devices.scope():
            network = self.network(data, seed, precision)
        training = Training(
            network, self.recipe, seed=seed, folder=folder, compile=compile, adversary=self.adversary,
            save_every=save_every, cluster=cluster,
        )  # fmt: skip
        training.check(data)  # before anything is deleted
        if fresh and devices.writes:
            _delete_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
        more = {"epochs": str(self.recipe.epochs), "--save-every": str(save_every)}
        # From here on, a worker of an earlier run that this one replaces can no longer write
        devices.check_folder(folder, {**training.settings, **data_identity(data, watched_split(data)), **more})
        training.restore()
        if not devices.collectives.agree(training.progress.steps_done(self.recipe.batch)):
            raise ValueError(f"the workers see different checkpoints in {folder}; name an --output that all share")
        return training


def _delete_run(folder: Path) -> None:
    """Delete the checkpoints, events, curves and measurements of a run, but not its weights."""
    with exclusive_folder(folder):
        for name in ("checkpoints", "events", "microscope"):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in ("history.json", "curves.png", FILE):
            (folder / name).unlink(missing_ok=True)


def prepare(
    model: str,
    data: str,
    recipe: str | None = None,
    *,
    epochs: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    gradients: str | None = None,
    size: Size | None = None,
    options: Mapping[str, Any] | None = None,
    adversary: Adversary | None = None,
) -> Plan:
    """Choose what is not given: the recipe by model and data, the sizes by model and recipe.

    Args:
        model: The name of the model.
        data: The name of the data set.
        recipe: The name of the recipe; None: that of the model's paper, and "digits" for the digits.
        epochs: Replaces the recipe's number of epochs.
        batch: Replaces the recipe's batch size.
        rate: Replaces the recipe's largest learning rate.
        gradients: Replaces how the recipe computes gradients: "tape" or "hand".
        size: The side of the network's images in pixels, or (height, width).
        options: The model's own options.
        adversary: Replaces the images of each step by attacked ones.

    Raises:
        ValueError: A name is unknown, no recipe is known for the model, or a value is out of range.
    """
    entry = find_model(model)
    options = dict(options or {})
    if recipe is None:
        matching = [default for start, default in DEFAULT_RECIPE.items() if model.startswith(start)]
        if not matching and data != "digits":
            raise ValueError(f"no recipe is known for {model}; name one with --recipe")
        recipe = "digits" if data == "digits" else matching[0]
    chosen = find_recipe(recipe)
    changes: dict[str, Any] = {"epochs": epochs, "batch": batch, "rate": rate, "gradients": gradients}
    chosen = replace(chosen, **{key: value for key, value in changes.items() if value is not None})
    if size is None and not model.startswith("cifar_"):
        size = entry.size
    if "auxiliary" in entry.options and chosen.auxiliary_weight:
        options.setdefault("auxiliary", True)
    data_size = size
    if chosen.augmentation.crop:
        if size is None:
            raise ValueError(f"the recipe {recipe} crops its images, so {model} needs a --size")
        chosen = replace(chosen, augmentation=replace(chosen.augmentation, **_scaled(chosen, size)))
        height, width = image_size(size)
        data_size = short_size((round(height * STORED), round(width * STORED)))
    return Plan(model, chosen, size, data_size, options, adversary)


def _scaled(recipe: Recipe, size: Size) -> dict:
    """The recipe's crop and jitter for images of `size` pixels, in the recipe's own proportions."""
    a, longer = recipe.augmentation, max(image_size(size))  # the crop must fit into the smallest scale
    jitter = tuple(round(side * longer / a.crop) for side in a.jitter) if a.jitter and a.crop else a.jitter
    return {"crop": size, "jitter": jitter}


def run(
    training: Training,
    data: DataSet,
    *,
    tensorboard: bool = True,
    images: bool = False,
    trace: bool = False,
    microscope: bool = False,
    draw_curves: Callable[[list[dict[str, float]], Path], object] | None = None,
    draw_filters: DrawFilters | None = None,
    on_step: Callable[[int, int, dict[str, float]], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> Evaluation:
    """Train to the end and write the results to the run's folder.

    Args:
        training: The run.
        data: The data set.
        tensorboard: Write event files of steps and epochs.
        images: Add pictures to the event files: augmented images, filters, and misclassified test images.
        trace: Add a profiler trace of some steps to the event files.
        microscope: Measure each layer before the first epoch and after each (`rawcnn.training.microscope`).
        draw_curves: Called as draw_curves(history, file) after each epoch: it draws the curves.
        draw_filters: Returns the picture of a network's filters for the event files.
        on_step: Called as on_step(step of the epoch, steps per epoch, metrics).
        on_epoch: Called with the summary of each epoch.
        report: Called with a message for the user.

    Returns:
        The evaluation of the test images.

    Raises:
        ValueError, TrainingFailed, Stopped, WorkerLost: As `Training.fit`.
    """
    folder, report = training.folder or Path("."), report or (lambda message: None)
    data = training.prepare(data, report)
    observer = Microscope(training, data) if microscope and training.devices.writes else None
    writes_events = (tensorboard or images or trace) and training.devices.writes
    events = Events(folder / "events" if writes_events else None, images=images, trace=trace, draw_filters=draw_filters)

    def step_done(step: int, steps: int, metrics: dict[str, float]) -> None:
        events.step(step, steps, metrics)
        if on_step:
            on_step(step, steps, metrics)

    def epoch_done(summary: dict[str, float]) -> None:
        assert training.result
        if observer:
            observer.look()
        events.epoch(summary, training, data, training.result)
        _write_history(training, folder, draw_curves)
        if on_epoch:
            on_epoch(summary)

    try:
        start = observer.look if observer else None
        result = training.fit(data, on_start=start, on_step=step_done, on_epoch=epoch_done)
        if training.progress.best:
            events.test(training.history[-1])
    finally:
        events.close()
    if events.untraced:
        report("no trace was written: it begins after the first steps of a run, and no steps were left")
    _write_history(training, folder, draw_curves)
    if training.devices.writes:
        save_weights(training.network, folder / "weights.safetensors", training.evaluation_variables)
    training.devices.collectives.wait()  # until the result is written: a worker that is lost now ends all
    return result


def _write_history(training: Training, folder: Path, draw_curves: Callable | None) -> None:
    if training.devices.writes:
        write_atomic(folder / "history.json", json.dumps(training.history, indent=1).encode())
        if draw_curves:
            draw_curves(training.history, folder / "curves.png")
