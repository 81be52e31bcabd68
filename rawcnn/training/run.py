"""A training run as the command line knows it: which recipe suits a model, and what a run leaves in its folder.

checkpoints/          the two newest, to go on from
events/               TensorBoard
history.json          a summary an epoch
curves.png            the same, drawn
weights.safetensors   the result, with what is needed to build the network again
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rawcnn.attacks import Adversary
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Evaluation
from rawcnn.files.atomic import write_atomic
from rawcnn.files.locks import exclusive_folder
from rawcnn.models import find
from rawcnn.nn.network import Network
from rawcnn.training.distributed import Cluster
from rawcnn.training.recipes import Recipe
from rawcnn.training.recipes import find as find_recipe
from rawcnn.training.resume import images_of
from rawcnn.training.tensorboard import Events
from rawcnn.training.trainer import SAVE_EVERY, Training
from rawcnn.weights import save_weights
from rawcnn.zoo import create

# The recipe of a model that is named none: its own paper's, and for CIFAR networks the one that needs few epochs.
OWN_RECIPE = {
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
STORED = 256 / 224  # images are kept this much larger than the crops that are cut from them (AlexNet, §4.1)


@dataclass(frozen=True)
class Plan:
    """A model, a recipe, and the sizes of network and stored images."""

    model: str
    recipe: Recipe
    size: int | None  # of the network; None: as large as the images are
    data_size: int | None  # to which the data set is brought; None: as it is
    options: Mapping[str, Any]
    adversary: Adversary | None = None

    def network(self, data: DataSet, seed: int, precision: str) -> Network:
        """A fresh one, for the classes of the data."""
        size = self.size or data.size[0]
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
        """The run, standing where its newest checkpoint stood. ValueError where a cluster's workers see others."""
        with cluster.scope() if cluster else nullcontext():
            network = self.network(data, seed, precision)
        training = Training(
            network, self.recipe, seed=seed, folder=folder, compile=compile, adversary=self.adversary,
            save_every=save_every, cluster=cluster,
        )  # fmt: skip
        training.check(data)  # what cannot be trained loses nothing of what was
        if fresh and (cluster is None or cluster.writes):
            with exclusive_folder(folder):
                for made in ("checkpoints", "events"):
                    shutil.rmtree(folder / made, ignore_errors=True)
                for made in ("history.json", "curves.png"):  # the weights stay until there are new ones
                    (folder / made).unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        if cluster and cluster.workers > 1:
            pace = {"epochs": str(self.recipe.epochs), "--save-every": str(save_every)}
            # After this a writer that is to be replaced writes no more
            cluster.check_shared(folder, {**training.settings, **images_of(data), **pace})
        training.restore()
        if cluster and not cluster.agree(training.number):
            raise ValueError(f"the workers see different checkpoints in {folder}; name an --output that all share")
        return training


def prepare(
    model: str,
    data: str,
    recipe: str | None = None,
    *,
    epochs: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    size: int | None = None,
    options: Mapping[str, Any] | None = None,
    adversary: Adversary | None = None,
) -> Plan:
    """Resolve what was left open: the recipe by model and data, the sizes by recipe. ValueError for wrong names."""
    entry = find(model)
    options = dict(options or {})
    if recipe is None:
        found = [own for start, own in OWN_RECIPE.items() if model.startswith(start)]
        if not found and data != "digits":
            raise ValueError(f"no recipe is known for {model}; name one with --recipe")
        recipe = "digits" if data == "digits" else found[0]
    chosen = find_recipe(recipe)
    changes: dict[str, Any] = {"epochs": epochs, "batch": batch, "rate": rate}
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
        data_size = round(size * STORED)
    return Plan(model, chosen, size, data_size, options, adversary)


def _scaled(recipe: Recipe, size: int) -> dict:
    """The recipe's crop and jitter for images of `size`, in the proportions that it has for its own."""
    a = recipe.augmentation
    jitter = tuple(round(side * size / a.crop) for side in a.jitter) if a.jitter and a.crop else a.jitter
    return {"crop": size, "jitter": jitter}


def run(
    training: Training,
    data: DataSet,
    *,
    tensorboard: bool = True,
    images: bool = False,
    trace: bool = False,
    on_step: Callable[[int, int, dict[str, float]], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Evaluation:
    """Train to the end and write the result beside the checkpoints; `images` and a `trace` go to TensorBoard, too."""
    folder = training.folder or Path(".")
    wanted = (tensorboard or images or trace) and training.writes
    events = Events(folder / "events" if wanted else None, images=images, trace=trace)

    def step_done(step: int, steps: int, metrics: dict[str, float]) -> None:
        events.step(step, steps, metrics)
        if on_step:
            on_step(step, steps, metrics)

    def epoch_done(summary: dict[str, float]) -> None:
        assert training.result
        events.epoch(summary, training, data, training.result)
        _write_history(training, folder)
        if on_epoch:
            on_epoch(summary)

    try:
        result = training.fit(data, on_step=step_done, on_epoch=epoch_done)
    finally:
        events.close()
    if events.untraced and tell:
        tell("nothing was traced: a trace begins behind the first steps of a run, and there were none left")
    _write_history(training, folder)
    if training.writes:
        save_weights(training.network, folder / "weights.safetensors", training.evaluation_variables)
    if training.cluster and training.cluster.workers > 1:
        training.cluster.wait()  # until the result is written: a writer that dies now is not to be alone
    return result


def _write_history(training: Training, folder: Path) -> None:
    from rawcnn.plots import figures as plots

    if training.writes:
        write_atomic(folder / "history.json", json.dumps(training.history, indent=1).encode())
        plots.save(plots.training_curves(training.history), folder / "curves.png")
