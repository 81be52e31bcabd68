"""An attack over many images and many ε: how accuracy falls as the attack may change more."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from rawcnn.attacks.checks import LONGEST, check_amounts, check_attack, check_integer, count_of, shown
from rawcnn.attacks.common import Classifier
from rawcnn.attacks.minimal_epsilon import Attack, at_epsilon
from rawcnn.attacks.problem import predict
from rawcnn.attacks.result import Columns, columns_from, plain, summarize
from rawcnn.data import DataSet
from rawcnn.data.dataset import check_data_set
from rawcnn.evaluation.accuracy import check_classes as check_data_classes
from rawcnn.files.journal import Journal
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network
from rawcnn.nn.preprocessing import center_crop

Batch = tuple[np.ndarray, np.ndarray]  # images [B,H,W,3] in [0,1], labels [B]


@dataclass(frozen=True)
class Work:
    """An attack on the batches of a data set."""

    attack: Attack
    network: Classifier
    batches: Iterable[Batch]  # from the first batch that the journal lacks
    total: int  # images
    settings: Mapping[str, Any]
    progress: Progress | None = None
    journal: Journal | None = None


def accuracy_against_epsilon(
    attack: Attack,
    network: Classifier,
    images,
    labels,
    epsilons: Sequence[float],
    *,
    batch: int = 256,
    progress: Progress | None = None,
    **settings,
) -> list[tuple[float, float]]:
    """Measure the accuracy under attack at several ε.

    Args:
        attack: `fgsm`, `pgd` or another function with the same form.
        network: A `Network`, or any function images → logits.
        images: RGB images [N,H,W,3] in [0,1].
        labels: The true classes, int [N].
        epsilons: The values of ε; 0 gives the accuracy without an attack.
        batch: How many images to attack at a time. It changes no random start.
        progress: Called with (images done, images in all), counted once for each ε.
        settings: Keywords of the attack. A function is called with ε: `step=lambda epsilon: epsilon / 4`.

    Returns:
        [(ε, accuracy)], for a plot.

    Raises:
        ValueError: An argument is out of range or does not fit the network.
    """
    batch = check_integer("batch", batch, 1)
    check_attack(attack)
    check_epsilons(epsilons)
    images, count = np.asarray(images), count_of(labels)
    if len(np.atleast_1d(images)) == 0:
        raise ValueError("there are 0 images; expected one or more")
    if images.ndim != 4 or count != len(images):
        raise ValueError(f"there are images {images.shape} and {count} labels; expected [N,H,W,3] and N labels")
    labels = np.asarray(labels)
    batches = [(images[i : i + batch], labels[i : i + batch]) for i in range(0, len(images), batch)]
    rows = _rows(Work(attack, network, batches, len(images), settings, progress), epsilons)
    return [(row["epsilon"], row["accuracy_after"]) for row in rows]


def sweep(
    attack: Attack,
    network: Classifier,
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
    """Attack a split of a data set at several ε.

    Images pass in batches and are not kept. Images larger than the network's are cropped.

    Args:
        attack: As `accuracy_against_epsilon`.
        network: As `accuracy_against_epsilon`.
        data: The data set.
        epsilons: The values of ε.
        split: "train" or "test".
        limit: Attack only so many images, drawn from the whole split, because data sets are sorted by class.
        sample_seed: Fixes which images are drawn.
        batch: As `accuracy_against_epsilon`.
        journal: Receives the table of each batch and ε. Tables that it has already are not computed again.
        progress: As `accuracy_against_epsilon`.
        settings: As `accuracy_against_epsilon`.

    Returns:
        One row per ε: {"epsilon": ε, **AttackResult.summary()}.

    Raises:
        ValueError: An argument is out of range or does not fit the network.
    """
    total = _total(data, split, limit)
    first = len(journal.rows) // max(len(epsilons), 1) if journal else 0
    batches = _batches(network, data, split, batch, total, sample_seed, first)
    return _rows(Work(attack, network, batches, total, settings, progress, journal), epsilons)


def columns_of(
    attack: Attack,
    network: Classifier,
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
    """Attack a split of a data set once, with an attack that takes no ε.

    Args:
        attack: `deepfool`, or another attack without ε.
        network: As `sweep`.
        data: As `sweep`.
        split: As `sweep`.
        limit: As `sweep`.
        sample_seed: As `sweep`.
        batch: As `sweep`.
        journal: As `sweep`.
        progress: As `sweep`.
        settings: As `sweep`.

    Returns:
        The `AttackResult.columns` of all images.

    Raises:
        ValueError: As `sweep`.
    """
    total = _total(data, split, limit)
    batches = _batches(network, data, split, batch, total, sample_seed, len(journal.rows) if journal else 0)
    (columns,) = _tables(Work(attack, network, batches, total, settings, progress, journal), [None])
    return columns


def examples_of(
    network: Classifier, data: DataSet, count: int = 8, *, target: int | None = None, split: str = "test",
    sample_seed: int = 0, among: int = 64,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Choose images on which to show an attack: predicted correctly, and of as many classes as possible.

    If the network is right about too few, others are added. Images of the target's class come last.

    Args:
        network: A `Network`, or any function images → logits.
        data: The data set.
        count: How many images.
        target: The attack's target.
        split: "train" or "test".
        sample_seed: Fixes which images are considered.
        among: How many images are considered.

    Returns:
        (images [count,H,W,3], labels [count]).
    """
    total = min(among, data.count(split))
    images, labels = next(_batches(network, data, split, total, total, sample_seed))
    right = predict(network, images)[0] == labels
    seen = np.array([np.sum((labels == label)[:place] & right[:place]) for place, label in enumerate(labels)])
    best = np.lexsort([seen, ~right, labels == target])[:count]  # the first of each class, then the second of each, …
    return images[best], labels[best]


def check_epsilons(epsilons: Sequence[float], most: float = LONGEST, expected: str = "0 or more") -> None:
    """ValueError unless they are one or more numbers from 0 to `most`; the message says what was `expected`."""
    if np.ndim(epsilons) != 1:
        raise ValueError(f"epsilons is {shown(epsilons)}; expected a list of one or more, such as [0, 2/255, 4/255]")
    if len(epsilons) == 0:
        raise ValueError("there are no epsilons; expected one or more, such as [0, 2/255, 4/255]")
    check_amounts("epsilon", epsilons, None, most, expected)


def _total(data: DataSet, split: str, limit: int | None) -> int:
    """The number of images of the split, at most `limit`. ValueError if it is 0."""
    if limit is not None:
        check_integer("limit", limit, 1)
    check_data_set(data)
    total = data.count(split) if limit is None else min(limit, data.count(split))
    if total < 1:
        raise ValueError(f"limit is {limit}; expected 1 or more images")
    return total


def _batches(network, data, split, batch, total, seed, first=0):
    """Batches of `total` images without the `first` batches: a whole split in its order, or a random part of it."""
    if isinstance(network, Network):
        check_data_classes(network, data)
    some, count = total < data.count(split), -(-total // batch) - first
    total -= first * batch
    for images, labels in islice(data.batches(split, batch, seed=seed, shuffle=some, first=first), count):
        keep = min(batch, total)
        total -= keep
        size = getattr(network, "image_size", None)
        if size and images.shape[1] > size[0] and images.shape[2] > size[1]:
            images = center_crop(images, size)
        yield images[:keep].numpy(), labels[:keep].numpy()


def _rows(work: Work, epsilons: Sequence[float]) -> list[dict]:
    """The rows of `sweep`."""
    check_epsilons(epsilons)
    return [
        {"epsilon": float(epsilon), **summarize(table)}
        for epsilon, table in zip(epsilons, _tables(work, epsilons), strict=True)
    ]


def _tables(work: Work, epsilons: Sequence[float | None]) -> list[Columns]:
    """The joined columns of all batches, for each ε; the attack gets none if it is None. Each batch is decoded once.

    A journal's rows are ordered by batch, then by ε.
    """
    journal = work.journal
    numbers_images = "first" in inspect.signature(work.attack).parameters  # it draws by the number of the image
    known: list[Columns] = [columns_from(row) for row in journal.rows] if journal else []
    tables: list[list[Columns]] = [known[number :: len(epsilons)] for number in range(len(epsilons))]
    before = len(known) // len(epsilons)  # batches
    done = sum(len(columns["label"]) for columns in tables[-1][:before])  # images
    for index, (images, labels) in enumerate(work.batches, before):
        for number, epsilon in enumerate(epsilons):
            if len(tables[number]) > index:
                continue
            settings = at_epsilon(work.settings, epsilon)
            settings |= {"first": done} if numbers_images else {}
            settings |= {} if epsilon is None else {"epsilon": epsilon}
            tables[number].append(work.attack(work.network, images, labels, **settings).columns())
            if journal:
                journal.add(plain(tables[number][-1]))
            if work.progress:
                work.progress(done * len(epsilons) + len(images) * (number + 1), work.total * len(epsilons))
        done += len(images)
    return [{name: np.concatenate([part[name] for part in table]) for name in table[0]} for table in tables]
