"""One attack on one network over a data set, whole: accuracy against ε, examples, and what it makes besides.

What ε is differs: the most that a pixel may change, of [0,1]; in L2 the length of the change; for `spatial` the share
of the largest rotation and translation; for `patch` the share of the image's area.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rawcnn.attacks.adversarial_patch import Patch, make_patch, patch
from rawcnn.attacks.black_box import Substitute, make_substitute
from rawcnn.attacks.black_box import substitute as transferred
from rawcnn.attacks.common import distance
from rawcnn.attacks.epsilon_sweep import columns_of, examples_of, sweep
from rawcnn.attacks.gradient import bim, fgsm, mi_fgsm, pgd
from rawcnn.attacks.logit_ascent import logit_pga
from rawcnn.attacks.minimal_epsilon import smallest
from rawcnn.attacks.nearest_boundary import deepfool
from rawcnn.attacks.result import AttackResult, Columns, summarize
from rawcnn.attacks.spatial_search import spatial
from rawcnn.data import DataSet
from rawcnn.evaluation.accuracy import Progress
from rawcnn.files.journal import Journal
from rawcnn.nn.network import Network

PIXELS = (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255)
LENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)  # in L2
PIXEL, LENGTH = "largest change of a pixel", "L2 norm of the change"
MOST = 4000  # training images that a patch is made on
SEEDS = 100  # test images that a substitute begins with, and which then are not attacked


@dataclass(frozen=True)
class Kind:
    """An attack as it is studied: its function, the values of ε, what ε is."""

    attack: Callable[..., AttackResult]
    epsilons: tuple[float, ...]
    unit: str
    making: Callable[..., Any] | None = None  # what is made before, once for all ε, with settings of its own


def at_smallest(
    network, images, labels, *, attack: str = "fgsm", largest: float = 1.0, tolerance: float = 1 / 2550,
    steps: int = 20, restarts: int = 1, seed: int = 0, first: int = 0, compile: str = "auto",
) -> AttackResult:  # fmt: skip
    """`smallest` by an attack's name; `steps`, of ε/4, and `restarts` are those of "pgd"."""
    if attack not in ("fgsm", "pgd"):
        raise ValueError(f"attack is {attack!r}; expected fgsm or pgd")
    own: dict[str, Any] = {"step": _quarter, "steps": steps, "restarts": restarts, "seed": seed, "first": first}
    settings = {"largest": largest, "tolerance": tolerance, "compile": compile, **(own if attack == "pgd" else {})}
    return smallest(network, images, labels, attack=KINDS[attack].attack, **settings)[1]


def carried_over(
    oracle, images, labels, *, substitute: Substitute, epsilon: float, attack: str = "fgsm", steps: int | None = None,
    compile: str = "auto",
) -> AttackResult:  # fmt: skip
    """`substitute` by the name of the attack on it; `steps` are those of all but "fgsm", by default their own."""
    if attack not in (names := ("fgsm", "bim", "mi_fgsm", "pgd")):
        raise ValueError(f"attack is {attack!r}; expected one of {', '.join(names)}")
    settings: dict[str, Any] = {} if steps is None or attack == "fgsm" else {"steps": steps}
    settings |= {"step": _quarter(epsilon)} if attack == "pgd" else {}
    transfer = partial(transferred, attack=KINDS[attack].attack, substitute=substitute, epsilon=epsilon)
    return transfer(oracle, images, labels, compile=compile, **settings)


def _quarter(epsilon):
    """PGD's step where none is given."""
    return epsilon / 4


KINDS: dict[str, Kind] = {
    "fgsm": Kind(fgsm, PIXELS, PIXEL),
    "bim": Kind(bim, PIXELS, PIXEL),
    "mi_fgsm": Kind(mi_fgsm, PIXELS, PIXEL),
    "pgd": Kind(pgd, PIXELS, PIXEL),
    "smallest": Kind(at_smallest, PIXELS, PIXEL),
    "deepfool": Kind(deepfool, PIXELS, PIXEL),
    "logit_pga": Kind(logit_pga, PIXELS, PIXEL),
    "spatial": Kind(spatial, (0.0, 0.25, 0.5, 0.75, 1.0), "share of the largest rotation and translation"),
    "patch": Kind(patch, (0.0, 0.02, 0.05, 0.1, 0.2), "share of the image that the patch covers", make_patch),
    "substitute": Kind(carried_over, (0.0, 0.1, 0.2, 0.3), PIXEL, make_substitute),
}
UNTARGETED = ("smallest", "deepfool", "substitute")


@dataclass(frozen=True)
class Study:
    """What came out. `rows` are those of `sweep`; `examples` were attacked with the largest ε."""

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
    """Attack `count` test images, or all, at each ε. `settings` are keywords of the attack, or of what it makes before.

    What each batch gives is added to the file `journal`, from which the same call goes on, and what it finds there is
    `tell`ed. ValueError for an unknown attack or setting, with those that there are.
    """
    given = checked(name, settings or {}, target)
    kind = find(name, given)
    epsilons = list(kind.epsilons if epsilons is None else epsilons)
    own = {key: given.get(key, default) for key, default in keywords(kind.attack).items()}
    if name == "pgd" and "step" not in given:
        given, own = {"step": _quarter, **given}, {**own, "step": "epsilon / 4"}
    common = {"compile": compile} | ({"seed": seed} if takes(kind.attack, "seed") else {})
    if target is not None and name != "patch":
        common["target"] = target
    made, again = None, 1 if kind.making else 0
    halves = _halves(progress, again)
    if name == "patch":
        given, made = _patch(network, data, target, seed, compile, given, halves(0))
    elif name == "substitute":
        data, given, made = _substitute(network, data, seed, compile, given, halves(0))
    given |= common
    told = {"target": target, "batch": batch, "compile": compile, **own, **({"made": made.settings} if made else {})}
    over: dict[str, Any] = {"limit": count, "sample_seed": seed, "batch": batch, "progress": halves(again)}
    if journal:
        about = {"attack": name, "network": network.digest(), "data": data.digest("test"), "epsilons": epsilons}
        over["journal"] = _journal(journal, {**about, "seed": seed, "count": count, **told}, tell)
    shown = examples_of(network, data, target=target, sample_seed=seed)
    if name in ("smallest", "deepfool"):
        norm = "l2" if kind.unit == LENGTH else "linf"
        distance("epsilon", epsilons, len(epsilons), norm)
        rows = _by_distance(columns_of(kind.attack, network, data, **over, **given), epsilons, norm)
        examples = kind.attack(network, *shown, **given)
    else:
        rows = sweep(kind.attack, network, data, epsilons, **over, **given)
        largest = max(epsilons)
        here = {key: value(largest) if callable(value) else value for key, value in given.items()}
        examples = kind.attack(network, *shown, epsilon=largest, **here)
    return Study(name, kind.unit, rows, examples, told, made)


def _journal(path: Path, about: Mapping[str, object], tell: Callable[[str], None] | None) -> Journal:
    journal = Journal(path, about, replace=True)
    if tell and journal.aside:
        tell(
            f"{path} holds results of other settings; they go to {journal.aside.name} there when the first of these is"
        )
    if tell and journal.rows:
        tell(f"going on after {len(journal.rows)} results of {path}")
    return journal


def find(name: str, settings: Mapping[str, Any] | None = None) -> Kind:
    """The attack called `name`, with what ε is by the norm in its `settings`; ValueError that lists them all."""
    if name not in KINDS:
        raise ValueError(f"there is no attack {name!r}; the attacks are {', '.join([*KINDS, 'evolve'])}")
    kind = KINDS[name]
    norm = {**keywords(kind.attack), **(settings or {})}.get("norm")
    return replace(kind, epsilons=LENGTHS, unit=LENGTH) if norm == "l2" else kind


def keywords(function: Callable) -> dict[str, object]:
    """The settings of a function that one may choose, and their defaults."""
    others = ("epsilon", "target", "seed", "first", "compile", "progress", "classes", "model", "recipe", "checkpoint")
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in others and p.default is not p.empty
    }


def takes(function: Callable, name: str) -> bool:
    return name in inspect.signature(function).parameters


def checked(name: str, settings: Mapping[str, Any], target: int | None = None) -> dict[str, Any]:
    """The settings; ValueError for one that the attack does not have, with those that it has, or for a target."""
    kind = find(name)
    known = {**keywords(kind.attack), **(keywords(kind.making) if kind.making else {})}
    if unknown := [key for key in settings if key not in known]:
        some = ", ".join(f"{key}={value!r}" for key, value in known.items() if not callable(value)) or "none"
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; its settings are {some}")
    if target is not None and name in UNTARGETED:
        raise ValueError(f"{name} has no target; leave it out")
    return dict(settings)


def _halves(progress: Progress | None, parts: int) -> Callable[[int], Progress | None]:
    """One bar for what is made first, half of it, and for the attack after that."""

    def told(part: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, total: progress(done + part * total, (parts + 1) * total)

    return told


def _by_distance(columns: Columns, epsilons: Sequence[float], norm: str) -> list[dict]:
    """Rows as `sweep` gives them, of an attack that finds its own ε: who lies farther away stays right."""
    distance = columns[norm]
    rows = []
    for epsilon in epsilons:
        far = distance > epsilon * (1 + 1e-6)
        at = {
            **columns,
            "prediction": np.where(far, columns["prediction_before"], columns["prediction"]),
            "confidence": np.where(far, columns["confidence_before"], columns["confidence"]),
            "success": columns["success"] & ~far,
            "l2": np.where(far, 0.0, columns["l2"]),
            "linf": np.where(far, 0.0, columns["linf"]),
        }
        fooled = columns["success"] & ~columns["already_wrong"]
        middle = float(np.median(distance[fooled])) if fooled.any() else None
        rows.append({"epsilon": float(epsilon), **summarize(at), "median_distance": middle})
    return rows


def _patch(network, data, target, seed, compile, settings, progress):
    """(the settings of `patch`, with the patch that was made on training images; the patch)."""
    if target is None:
        raise ValueError("a patch makes images a class that one wants; give a target")
    making = {key: value for key, value in settings.items() if takes(make_patch, key)}
    images, _ = next(data.batches("train", min(MOST, data.count("train")), seed=seed))
    made = make_patch(network, images.numpy(), target=target, seed=seed, compile=compile, progress=progress, **making)
    laying = {key: value for key, value in settings.items() if takes(patch, key)}
    return {"patch": made, **laying}, made


def _substitute(network, data, seed, compile, settings, progress):
    """(the data without the seeds, the settings of `substitute`, the substitute)."""
    if data.count("test") <= SEEDS:
        raise ValueError(
            f"a substitute learns from {SEEDS} test images and is tried on the others, but {data.name} has "
            f"{data.count('test')} test images; give larger --data"
        )
    seeds = np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(data.count("test"))[:SEEDS])
    making = {key: value for key, value in settings.items() if takes(make_substitute, key)}
    images, classes = data.take("test", seeds), network.classes
    made = make_substitute(
        network, images, classes=classes, seed=seed, compile=compile, progress=progress, **making
    )  # fmt: skip
    others = np.setdiff1d(np.arange(data.count("test")), seeds)
    carrying = {key: value for key, value in settings.items() if key not in making}
    return data.only("test", others), {"substitute": made, **carrying}, made
