"""One attack on one network over a data set: accuracy against ε, examples, and what the attack makes on the way.

ε has several meanings: the largest change of a pixel, of [0,1]; in L2 the length of the change; for `spatial` the share
of the largest rotation and translation; for `patch` the share of the image's area.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rawcnn.attacks.adversarial_patch import Patch
from rawcnn.attacks.black_box import Substitute
from rawcnn.attacks.catalogue import (
    LENGTH,
    Entry,
    Preparation,
    PreparationInputs,
    checked,
    find_attack,
    keywords,
    takes,
)
from rawcnn.attacks.checks import check_classes, check_integer
from rawcnn.attacks.epsilon_sweep import columns_of, examples_of, sweep
from rawcnn.attacks.minimal_epsilon import at_epsilon
from rawcnn.attacks.result import AttackResult, Columns, summarize
from rawcnn.data import DataSet
from rawcnn.evaluation.class_names import check_classes as check_data_classes
from rawcnn.files.journal import Journal
from rawcnn.files.progress import Progress
from rawcnn.nn.network import Network


@dataclass(frozen=True)
class Study:
    """The result of `study`.

    Attributes:
        name: The name of the attack.
        unit: What ε measures in this attack.
        rows: The rows of `sweep`, one per ε.
        examples: A few images, attacked with the largest ε.
        settings: The settings of the attack, by name.
        made: The patch or the substitute network that the attack made first; None if it makes neither.
    """

    name: str
    unit: str
    rows: list[dict]
    examples: AttackResult = field(repr=False)
    settings: dict[str, object]
    made: Patch | Substitute | None = None


def study(
    name: str,
    network: Network,
    data: DataSet,
    epsilons: Sequence[float] | None = None,
    *,
    target: int | None = None,
    count: int | None = None,
    batch: int = 128,
    seed: int = 0,
    compile: str = "auto",
    journal: Path | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Study:
    """Attack the test images of a data set at several ε.

    Args:
        name: The attack, one of those that `rawcnn attack` lists except "evolve".
        network: The network.
        data: The data set.
        epsilons: The values of ε; those of the attack by default.
        target: A class to reach.
        count: How many test images, drawn at random; all by default.
        batch: How many images to attack at a time.
        seed: Fixes all random choices.
        compile: One of `rawcnn.nn.execution.MODES`.
        journal: A file to which the result of each batch is added, and from which the same call resumes.
        progress: Called with (done, in all).
        tell: Called with messages about what the journal holds.
        settings: Keywords of the attack, or of the function that makes what it uses.

    Returns:
        Rows, examples and settings.

    Raises:
        ValueError: The attack or a setting does not exist, or an argument is out of range. The message lists what
            exists.
    """
    requested = checked(name, settings or {}, target)
    entry = find_attack(name, requested)
    epsilons = entry.epsilons if epsilons is None else epsilons
    entry.check(epsilons)
    epsilons = [float(epsilon) for epsilon in epsilons]
    batch, seed = check_integer("batch", batch, 1), check_integer("seed", seed, 0)
    count = None if count is None else check_integer("count", count, 1)
    check_data_classes(network, data)
    if target is not None:
        target = int(check_classes("target", [target], 1, network.classes)[0])
    inputs = PreparationInputs(network, data, target, seed, compile, requested)
    parts = 2 if entry.prepare else 1
    prepared = entry.prepare(inputs, _part(progress, 0, parts)) if entry.prepare else Preparation(data, requested)
    arguments = prepared.settings | {"compile": compile} | ({"seed": seed} if takes(entry.attack, "seed") else {})
    if target is not None and not entry.needs_target:
        arguments["target"] = target
    record = _record(entry, requested, prepared, target=target, batch=batch, compile=compile)
    options: dict[str, Any] = {
        "limit": count, "sample_seed": seed, "batch": batch, "progress": _part(progress, parts - 1, parts),
    }  # fmt: skip
    if journal:
        description: dict[str, object] = {
            "attack": name,
            "network": network.digest(),
            "data": prepared.data.digest("test"),
        }
        description |= {"epsilons": epsilons, "seed": seed, "count": count, **_for_journal(entry, record)}
        options["journal"] = _open_journal(journal, description, tell)
    examples = examples_of(network, prepared.data, target=target, sample_seed=seed)
    attack = _by_distance if entry.finds_epsilon else _by_epsilon
    rows, shown = attack(entry, network, prepared.data, epsilons, examples, options, arguments)
    return Study(name, entry.unit, rows, shown, record, prepared.made)


def _record(entry: Entry, requested: Mapping[str, Any], prepared: Preparation, **common) -> dict[str, object]:
    """All settings of a study, for people and files."""
    used = {key: requested.get(key, default) for key, default in keywords(entry.attack).items()}
    used |= {key: text for key, text in entry.described.items() if key not in requested}
    made = {"made": prepared.made.settings} if prepared.made else {}
    return {**common, **used, **made}


def _for_journal(entry: Entry, record: Mapping[str, object]) -> dict[str, object]:
    """The record without a default `early_stop`, so that journals from before that setting are resumed."""
    default = keywords(entry.attack).get("early_stop")
    return {key: value for key, value in record.items() if key != "early_stop" or value != default}


def _open_journal(path: Path, description: Mapping[str, object], tell: Callable[[str], None] | None) -> Journal:
    journal = Journal(path, description, replace=True)
    if tell and journal.aside:
        tell(
            f"{path} holds results of other settings; they move to {journal.aside.name} when the first new result is "
            "written"
        )
    if tell and journal.rows:
        tell(f"resuming after {len(journal.rows)} results of {path}")
    return journal


def _part(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """The progress of one of several equal parts of the work."""
    if progress is None:
        return None
    return lambda done, total: progress(done + part * total, parts * total)


# Rows and examples ------------------------------------------------------------------------------------------

RowsAndExamples = tuple[list[dict], AttackResult]


def _by_epsilon(entry: Entry, network, data, epsilons, examples, options, arguments) -> RowsAndExamples:
    """Of an attack that takes ε."""
    rows = sweep(entry.attack, network, data, epsilons, **options, **arguments)
    largest = max(epsilons)
    return rows, entry.attack(network, *examples, epsilon=largest, **at_epsilon(arguments, largest))


def _by_distance(entry: Entry, network, data, epsilons, examples, options, arguments) -> RowsAndExamples:
    """Of an attack that finds its own ε."""
    norm = "l2" if entry.unit == LENGTH else "linf"
    columns = columns_of(entry.attack, network, data, **options, **arguments)
    return [_within(columns, epsilon, norm) for epsilon in epsilons], entry.attack(network, *examples, **arguments)


def _within(columns: Columns, epsilon: float, norm: str) -> dict:
    """A row as `sweep` returns it: images that needed more than ε count as not attacked."""
    distance = columns[norm]
    far = distance > epsilon * (1 + 1e-6)
    table = {
        **columns,
        "prediction": np.where(far, columns["prediction_before"], columns["prediction"]),
        "confidence": np.where(far, columns["confidence_before"], columns["confidence"]),
        "success": columns["success"] & ~far,
        "l2": np.where(far, 0.0, columns["l2"]),
        "linf": np.where(far, 0.0, columns["linf"]),
    }
    fooled = columns["success"] & ~columns["already_wrong"]
    median = float(np.median(distance[fooled])) if fooled.any() else None
    return {"epsilon": float(epsilon), **summarize(table), "median_distance": median}
