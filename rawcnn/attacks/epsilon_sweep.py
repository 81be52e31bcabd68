"""An attack over many images and many ε: how accuracy falls as the attack may change more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import tensorflow as tf

from rawcnn.attacks.common import Model, logits_of, run
from rawcnn.attacks.result import AttackResult, Columns, columns_from, plain, summarize
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Progress
from rawcnn.files.journal import Journal
from rawcnn.nn.preprocessing import center_crop

Attack = Callable[..., AttackResult]


def accuracy_against_epsilon(
    attack: Attack,
    network: Model,
    images,
    labels,
    epsilons: Sequence[float],
    *,
    batch: int = 256,
    progress: Progress | None = None,
    **settings,
) -> list[tuple[float, float]]:
    """[(ε, accuracy under attack)] for a plot; ε = 0 gives the accuracy of the images as they are.

    `attack` is `fgsm`, `pgd` or another function of that form, `settings` its keywords; a setting that is a function
    is called with ε: `step=lambda epsilon: epsilon / 4`. progress(done, total) counts images, once for each ε.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if batch < 1 or len(images) == 0:
        raise ValueError(f"there are {len(images)} images in batches of {batch}; expected 1 or more of each")
    batches = [(images[i : i + batch], labels[i : i + batch]) for i in range(0, len(images), batch)]
    rows = _over(attack, network, batches, epsilons, len(images), progress, settings)
    return [(row["epsilon"], row["accuracy_after"]) for row in rows]


def sweep(
    attack: Attack,
    network: Model,
    data: DataSet,
    epsilons: Sequence[float],
    /,
    *,
    split: str = "test",
    limit: int | None = None,
    sample_seed: int = 0,
    batch: int = 128,
    journal: Journal | None = None,
    progress: Progress | None = None,
    **settings,
) -> list[dict]:
    """Attack a split at each ε: [{"epsilon": ε, **AttackResult.summary()}].

    With `limit`, only that many of its images, drawn from all of them by `sample_seed`: data sets lie class by class.
    Images pass in batches and are not kept. Settings, `progress` and the random starts are as those of
    `accuracy_against_epsilon`: the batch size changes none. Images larger than the network's are cropped. To a
    `journal` the table of each batch and ε is added; what it has already is not done again.
    """
    total = _total(data, split, limit)
    first = len(journal.rows) // max(len(epsilons), 1) if journal else 0
    batches = _batches(network, data, split, batch, total, sample_seed, first)
    return _over(attack, network, batches, epsilons, total, progress, settings, journal)


def columns_of(
    attack: Attack,
    network: Model,
    data: DataSet,
    /,
    *,
    split: str = "test",
    limit: int | None = None,
    sample_seed: int = 0,
    batch: int = 128,
    journal: Journal | None = None,
    progress: Progress | None = None,
    **settings,
) -> Columns:
    """Attack a split once, by an attack that needs no ε: its `AttackResult.columns`, joined. The rest as `sweep`."""
    total = _total(data, split, limit)
    batches = _batches(network, data, split, batch, total, sample_seed, len(journal.rows) if journal else 0)
    (columns,) = _tables(attack, network, batches, [None], total, progress, settings, journal)
    return columns


def examples_of(
    network: Model, data: DataSet, count: int = 8, *, target: int | None = None, split: str = "test",
    sample_seed: int = 0, among: int = 64,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """(images, labels) of `count` images to show an attack on: predicted rightly, of as many classes as there are.

    They are looked for `among` so many of the split. Where the network knows too few, others fill up; those that are
    of the `target` already come last.
    """
    total = min(among, data.count(split))
    images, labels = next(_batches(network, data, split, total, total, sample_seed))
    right = np.argmax(run(network, logits_of, tf.constant(images)), axis=1) == labels
    seen = np.array([np.sum((labels == label)[:place] & right[:place]) for place, label in enumerate(labels)])
    best = np.lexsort([seen, ~right, labels == target])[:count]  # the first of each class, then the second of each, …
    return images[best], labels[best]


def _total(data: DataSet, split: str, limit: int | None) -> int:
    """How many images there are, or fewer; ValueError for none."""
    total = data.count(split) if limit is None else min(limit, data.count(split))
    if total < 1:
        raise ValueError(f"limit is {limit}; expected 1 or more images")
    return total


def _batches(network, data, split, batch, total, seed, first=0):
    """`total` images of a split in batches but the `first` of these: all in their order, or some drawn from all."""
    some, count = total < data.count(split), -(-total // batch) - first
    total -= first * batch
    for images, labels in islice(data.batches(split, batch, seed=seed, shuffle=some, first=first), count):
        keep = min(batch, total)
        total -= keep
        size = getattr(network, "input_size", None)
        if size and min(images.shape[1:3]) > size:
            images = center_crop(images, size)
        yield images[:keep].numpy(), labels[:keep].numpy()


def _over(attack, network, batches, epsilons, total, progress, settings, journal=None) -> list[dict]:
    """The rows of `sweep`."""
    if len(epsilons) == 0:
        raise ValueError("there are no epsilons; expected one or more, such as [0, 2/255, 4/255]")
    tables = _tables(attack, network, batches, epsilons, total, progress, settings, journal)
    return [{"epsilon": float(e), **summarize(table)} for e, table in zip(epsilons, tables, strict=True)]


def _tables(attack, network, batches, epsilons, total, progress, settings, journal=None) -> list[Columns]:
    """For every ε, which is not given where it is None, the joined columns of all batches: each is decoded once.

    The rows of a journal are batch by batch, and within one ε by ε; `batches` begin with the first that lacks some.
    """
    counts_images = "first" in inspect.signature(attack).parameters  # the attack draws by the number of the image
    known: list[Columns] = [columns_from(row) for row in journal.rows] if journal else []
    tables: list[list[Columns]] = [known[number :: len(epsilons)] for number in range(len(epsilons))]
    before = len(known) // len(epsilons)  # batches
    done = sum(len(columns["label"]) for columns in tables[-1][:before])  # images
    for index, (images, labels) in enumerate(batches, before):
        for number, epsilon in enumerate(epsilons):
            if len(tables[number]) > index:
                continue
            here = {name: value(epsilon) if callable(value) else value for name, value in settings.items()}
            if counts_images:
                here["first"] = done
            if epsilon is not None:
                here["epsilon"] = epsilon
            tables[number].append(attack(network, images, labels, **here).columns())
            if journal:
                journal.add(plain(tables[number][-1]))
            if progress:
                progress(done * len(epsilons) + len(images) * (number + 1), total * len(epsilons))
        done += len(images)
    return [{name: np.concatenate([part[name] for part in table]) for name in table[0]} for table in tables]
