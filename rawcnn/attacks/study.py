"""One attack on one network over a data set, whole: accuracy against ε, examples, and what it makes besides.

What ε is differs: the most that a pixel may change, of [0,1]; for `deepfool` in L2 the length of the change; for
`spatial` the share of the largest rotation and translation; for `patch` the share of the image's area.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from rawcnn.attacks.deepfool import deepfool
from rawcnn.attacks.gradient import bim, fgsm, mi_fgsm, pgd
from rawcnn.attacks.logit_pga import logit_pga
from rawcnn.attacks.patch import Patch, make_patch, patch
from rawcnn.attacks.result import AttackResult, Columns, summarize
from rawcnn.attacks.smallest import smallest
from rawcnn.attacks.spatial import spatial
from rawcnn.attacks.substitute import Substitute, make_substitute, substitute
from rawcnn.attacks.sweep import columns_of, examples_of, sweep
from rawcnn.data import DataSet
from rawcnn.evaluate import Progress
from rawcnn.network import Network

PIXELS = (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255)
MOST = 4000  # training images that a patch is made on
SEEDS = 100  # test images that a substitute begins with, and which then are not attacked


@dataclass(frozen=True)
class Kind:
    """An attack as it is studied: its function, the values of ε, what ε is."""

    attack: Callable[..., AttackResult]
    epsilons: tuple[float, ...]
    unit: str
    making: Callable[..., Any] | None = None  # what is made before, once for all ε, with settings of its own


KINDS: dict[str, Kind] = {
    "fgsm": Kind(fgsm, PIXELS, "largest change of a pixel"),
    "bim": Kind(bim, PIXELS, "largest change of a pixel"),
    "mi_fgsm": Kind(mi_fgsm, PIXELS, "largest change of a pixel"),
    "pgd": Kind(pgd, PIXELS, "largest change of a pixel, or L2 norm"),
    "smallest": Kind(lambda *given, **settings: smallest(*given, **settings)[1], PIXELS, "largest change of a pixel",
                     smallest),
    "deepfool": Kind(deepfool, (0.0, 0.05, 0.1, 0.2, 0.3, 0.5), "L2 norm of the change, or the largest of a pixel"),
    "logit_pga": Kind(logit_pga, PIXELS, "largest change of a pixel"),
    "spatial": Kind(spatial, (0.0, 0.25, 0.5, 0.75, 1.0), "share of the largest rotation and translation"),
    "patch": Kind(patch, (0.0, 0.02, 0.05, 0.1, 0.2), "share of the image that the patch covers", make_patch),
    "substitute": Kind(substitute, (0.0, 0.1, 0.2, 0.3), "largest change of a pixel", make_substitute),
}  # fmt: skip
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
    progress: Progress | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Study:
    """Attack `count` test images, or all, at each ε. `settings` are keywords of the attack, or of what it makes before.

    ValueError for an unknown attack or setting, with those that there are.
    """
    kind = find(name)
    epsilons = list(kind.epsilons if epsilons is None else epsilons)
    given = checked(name, settings or {})
    if target is not None and name in UNTARGETED:
        raise ValueError(f"{name} has no target; leave it out")
    if name == "pgd":
        given = {"step": lambda epsilon: epsilon / 4, **given}
    common = {"compile": compile} | ({"seed": seed} if takes(kind.attack, "seed") else {})
    if target is not None and name != "patch":
        common["target"] = target
    made, again = None, 1 if kind.making and name != "smallest" else 0
    told = _halves(progress, again)
    if name == "patch":
        given, made = _patch(network, data, target, seed, compile, given, told(0))
    elif name == "substitute":
        data, given, made = _substitute(network, data, seed, compile, given, told(0))
    given |= common
    over: dict[str, Any] = {"limit": count, "sample_seed": seed, "batch": batch, "progress": told(again)}
    if name in ("smallest", "deepfool"):
        attack = _smallest(given) if name == "smallest" else partial(deepfool, **given)
        rows = _by_distance(columns_of(attack, network, data, **over), epsilons, given.get("norm", ""), name)
        examples = attack(network, *examples_of(network, data, sample_seed=seed))
    else:
        rows = sweep(kind.attack, network, data, epsilons, **over, **given)
        here = {key: value(epsilons[-1]) if callable(value) else value for key, value in given.items()}
        examples = kind.attack(network, *examples_of(network, data, sample_seed=seed), epsilon=epsilons[-1], **here)
    plain = {key: value for key, value in given.items() if isinstance(value, (int, float, str, bool))}
    return Study(name, kind.unit, rows, examples, {"target": target, **plain, **(made.settings if made else {})}, made)


def find(name: str) -> Kind:
    """The attack called `name`; ValueError that lists them all."""
    if name not in KINDS:
        raise ValueError(f"there is no attack {name!r}; the attacks are {', '.join([*KINDS, 'evolve'])}")
    return KINDS[name]


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


def checked(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings; ValueError for one that the attack does not have, with those that it has."""
    kind = find(name)
    known = {**keywords(kind.attack), **(keywords(kind.making) if kind.making else {})}
    if unknown := [key for key in settings if key not in known]:
        some = ", ".join(f"{key}={value!r}" for key, value in known.items() if not callable(value)) or "none"
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; its settings are {some}")
    return dict(settings)


def _halves(progress: Progress | None, parts: int) -> Callable[[int], Progress | None]:
    """One bar for what is made first, half of it, and for the attack after that."""

    def told(part: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, total: progress(done + part * total, (parts + 1) * total)

    return told


def _smallest(settings: Mapping[str, Any]) -> Callable[..., AttackResult]:
    """`smallest` as an attack; `attack` may be a name."""
    attack = settings.get("attack", "fgsm")
    if attack not in ("fgsm", "pgd"):
        raise ValueError(f"attack is {attack!r}; expected fgsm or pgd")
    here = {**settings, "attack": KINDS[attack].attack}
    if attack == "pgd":
        here.setdefault("step", lambda epsilon: epsilon / 4)

    def found(network, images, labels) -> AttackResult:
        return smallest(network, images, labels, **here)[1]

    return found


def _by_distance(columns: Columns, epsilons: Sequence[float], norm: str, name: str) -> list[dict]:
    """Rows as `sweep` gives them, of an attack that finds its own ε: who lies farther away stays right."""
    distance = columns["linf" if name == "smallest" or norm == "linf" else "l2"]
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
    ((images, _),) = data.batches("train", min(MOST, data.count("train")), seed=seed).take(1).as_numpy_iterator()
    made = make_patch(network, images, target=target, seed=seed, compile=compile, progress=progress, **making)
    laying = {key: value for key, value in settings.items() if takes(patch, key)}
    return {"patch": made, **laying}, made


def _substitute(network, data, seed, compile, settings, progress):
    """(the data without the seeds, the settings of `substitute`, the substitute)."""
    seeds = np.sort(np.random.Generator(np.random.PCG64(seed)).permutation(data.count("test"))[:SEEDS])
    making = {key: value for key, value in settings.items() if takes(make_substitute, key)}
    images, classes = data.take("test", seeds), network.classes
    made = make_substitute(
        network, images, classes=classes, seed=seed, compile=compile, progress=progress, **making
    )  # fmt: skip
    others = np.setdiff1d(np.arange(data.count("test")), seeds)
    return data.only("test", others), {"substitute": made}, made
