"""The attacks that `study` and the command line know: the function of each, its ε, its settings and its preparation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from rawcnn.attacks.adversarial_patch import LARGEST_DISC, Patch, make_patch, patch
from rawcnn.attacks.black_box import Substitute, make_substitute
from rawcnn.attacks.black_box import substitute as transferred
from rawcnn.attacks.checks import LONGEST, PIXEL_RANGE, check_choice, check_flag, check_integer
from rawcnn.attacks.epsilon_sweep import check_epsilons
from rawcnn.attacks.gradient import bim, fgsm, mi_fgsm, pgd
from rawcnn.attacks.logit_ascent import logit_pga
from rawcnn.attacks.minimal_epsilon import at_epsilon, smallest
from rawcnn.attacks.nearest_boundary import deepfool
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.spatial_search import spatial
from rawcnn.data import DataSet
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import plain_values
from rawcnn.nn.network import Network

PIXELS = (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255)
LENGTHS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)  # in L2
PIXEL, LENGTH = "largest change of a pixel", "L2 norm of the change"
PATCH_IMAGES = 4000  # training images on which a patch is made
SUBSTITUTE_SEEDS = 100  # test images with which a substitute begins; they are not attacked afterward
TRANSFERRED = ("fgsm", "bim", "mi_fgsm", "pgd")  # attacks on a substitute
# Keywords that are not settings, because other options set them or because they are not for the command line.
NO_SETTINGS = ("epsilon", "target", "seed", "first", "compile", "progress", "classes", "model", "recipe", "checkpoint")


@dataclass(frozen=True)
class Preparation:
    """What is made once for all ε before an attack, and what the attack then uses."""

    data: DataSet  # the images to attack
    settings: dict[str, Any]  # keywords of the attack, with what was made among them
    made: Patch | Substitute | None = None


@dataclass(frozen=True)
class Entry:
    """An attack and what `study` must know of it."""

    attack: Callable[..., AttackResult]
    epsilons: tuple[float, ...]  # by default
    unit: str  # what ε is
    takes_target: bool = True
    needs_target: bool = False  # it aims at the target before the attack, and the attack itself takes none
    finds_epsilon: bool = False  # the attack finds ε image by image; the values of ε only divide its results
    largest: float = 1.0  # ε
    described: Mapping[str, str] = field(default_factory=dict)  # defaults that depend on ε
    make: Callable[..., Any] | None = None  # makes what the attack uses; its keywords are settings too
    prepare: Callable[..., Preparation] | None = None  # (inputs, progress) → what `make` made of the data
    check_values: Callable[[Mapping[str, Any]], None] | None = None  # checks the values of its settings before any work

    def settings(self) -> dict[str, object]:
        """All settings and their defaults."""
        return {**keywords(self.attack), **(keywords(self.make) if self.make else {})}

    def check(self, epsilons: Sequence[float]) -> None:
        """ValueError unless they are values of ε that the attack takes."""
        expected = PIXEL_RANGE if self.unit == PIXEL else f"0 to {self.largest:.3g}, the {self.unit}"
        check_epsilons(epsilons, self.largest, expected)


@dataclass(frozen=True)
class PreparationInputs:
    """What a preparation starts from."""

    network: Network
    data: DataSet
    target: int | None
    seed: int
    compile: str
    settings: Mapping[str, Any]


# Attacks by the name of another ------------------------------------------------------------------------------


def smallest_by_name(
    network, *batch, attack: str = "fgsm", largest: float = 1.0, tolerance: float = 1 / 2550,
    steps: int = 20, restarts: int = 1, seed: int = 0, first: int = 0, compile: str = "auto",
) -> AttackResult:  # fmt: skip
    """`smallest` of a batch of images and labels; `steps` and `restarts` are those of the attack "pgd"."""
    if attack not in ("fgsm", "pgd"):
        raise ValueError(f"attack is {attack!r}; expected fgsm or pgd")
    steps, restarts = check_integer("steps", steps, 1), check_integer("restarts", restarts, 1)
    of_pgd: dict[str, Any] = {"steps": steps, "restarts": restarts, "seed": seed, "first": first}
    settings = {"largest": largest, "tolerance": tolerance, "compile": compile, **(of_pgd if attack == "pgd" else {})}
    return smallest(network, *batch, attack=CATALOGUE[attack].attack, **settings)[1]


def substitute_by_name(
    oracle, images, labels, *, substitute: Substitute, epsilon: float, attack: str = "fgsm", steps: int | None = None,
    early_stop: bool = True, compile: str = "auto",
) -> AttackResult:  # fmt: skip
    """`substitute` with the name of its attack; `steps` and `early_stop` are those of all attacks but "fgsm"."""
    check_choice("attack", attack, TRANSFERRED)
    settings: dict[str, Any] = {} if steps is None or attack == "fgsm" else {"steps": steps}
    settings |= {} if attack == "fgsm" else {"early_stop": early_stop}
    transfer = partial(transferred, attack=CATALOGUE[attack].attack, substitute=substitute, epsilon=epsilon)
    return transfer(oracle, images, labels, compile=compile, **settings)


# Values of settings, before any work ------------------------------------------------------------------------


class SettingsAccepted(Exception):
    """An attack called its network, so it has accepted all its settings."""


class PlaceholderNetwork:
    """Stands where an attack expects a network, and raises `SettingsAccepted` when it is called."""

    input_size = 8

    def __call__(self, images):
        raise SettingsAccepted

    @property
    def operations(self):
        raise SettingsAccepted


def check_by_calling(function: Callable, *inputs, **settings) -> None:
    """Call an attack up to the first use of its network. It checks its settings before that.

    Args:
        function: Its first argument is the network.
        inputs: Its other arguments.
        settings: The settings to check.

    Raises:
        ValueError: A setting is out of range.
    """
    with suppress(SettingsAccepted):
        function(PlaceholderNetwork(), *inputs, compile="eager", **settings)


def _images(count: int) -> np.ndarray:
    return np.zeros((count, 8, 8, 3), np.float32)


def check_patch_values(settings: Mapping[str, Any]) -> None:
    """Check the settings of `make_patch`; those of `patch` are among them."""
    check_by_calling(make_patch, _images(1), target=0, **settings)


def check_substitute_values(settings: Mapping[str, Any]) -> None:
    """Check the settings of `make_substitute` and of the attack on what it makes."""
    check_choice("attack", settings.get("attack", "fgsm"), TRANSFERRED)
    if settings.get("steps") is not None:
        check_integer("steps", settings["steps"], 1)
    check_flag("early_stop", settings.get("early_stop", True))
    making = {key: value for key, value in settings.items() if takes(make_substitute, key)}
    check_by_calling(make_substitute, _images(SUBSTITUTE_SEEDS), classes=2, **making)


# Preparations -----------------------------------------------------------------------------------------------


def prepare_patch(inputs: PreparationInputs, progress: Progress | None) -> Preparation:
    """Make a patch on training images."""
    if inputs.target is None:
        raise ValueError("a patch makes images a chosen class; give a target")
    making = {key: value for key, value in inputs.settings.items() if takes(make_patch, key)}
    count = min(PATCH_IMAGES, inputs.data.count("train"))
    images, _ = next(inputs.data.batches("train", count, seed=inputs.seed))
    made = make_patch(
        inputs.network, images.numpy(), target=inputs.target, seed=inputs.seed, compile=inputs.compile,
        progress=progress, **making,
    )  # fmt: skip
    using = {key: value for key, value in inputs.settings.items() if takes(patch, key)}
    return Preparation(inputs.data, {"patch": made, **using}, made)


def prepare_substitute(inputs: PreparationInputs, progress: Progress | None) -> Preparation:
    """Train a substitute on some test images; the others remain to be attacked."""
    data, count = inputs.data, inputs.data.count("test")
    if count <= SUBSTITUTE_SEEDS:
        raise ValueError(
            f"a substitute learns from {SUBSTITUTE_SEEDS} test images and is tried on the others, but {data.name} has "
            f"{count} test images; give larger --data"
        )
    seeds = np.sort(np.random.Generator(np.random.PCG64(inputs.seed)).permutation(count)[:SUBSTITUTE_SEEDS])
    making = {key: value for key, value in inputs.settings.items() if takes(make_substitute, key)}
    made = make_substitute(
        inputs.network, data.take("test", seeds.tolist()), classes=inputs.network.classes, seed=inputs.seed,
        compile=inputs.compile, progress=progress, **making,
    )  # fmt: skip
    using = {key: value for key, value in inputs.settings.items() if key not in making}
    others = np.setdiff1d(np.arange(count), seeds)
    return Preparation(data.only("test", others.tolist()), {"substitute": made, **using}, made)


# The catalogue ----------------------------------------------------------------------------------------------

CATALOGUE: dict[str, Entry] = {
    "fgsm": Entry(fgsm, PIXELS, PIXEL),
    "bim": Entry(bim, PIXELS, PIXEL),
    "mi_fgsm": Entry(mi_fgsm, PIXELS, PIXEL),
    "pgd": Entry(pgd, PIXELS, PIXEL, described={"step": "epsilon / 4"}),
    "smallest": Entry(smallest_by_name, PIXELS, PIXEL, takes_target=False, finds_epsilon=True),
    "deepfool": Entry(deepfool, PIXELS, PIXEL, takes_target=False, finds_epsilon=True),
    "logit_pga": Entry(logit_pga, PIXELS, PIXEL),
    "spatial": Entry(spatial, (0.0, 0.25, 0.5, 0.75, 1.0), "share of the largest rotation and translation"),
    "patch": Entry(
        patch, (0.0, 0.02, 0.05, 0.1, 0.2), "share of the image that the patch covers", largest=LARGEST_DISC,
        needs_target=True,
        make=make_patch, prepare=prepare_patch, check_values=check_patch_values,
    ),
    "substitute": Entry(
        substitute_by_name, (0.0, 0.1, 0.2, 0.3), PIXEL, takes_target=False, make=make_substitute,
        prepare=prepare_substitute, check_values=check_substitute_values,
    ),
}  # fmt: skip


def find_attack(name: str, settings: Mapping[str, Any] | None = None) -> Entry:
    """Find an attack by its name.

    Args:
        name: The name.
        settings: Its settings. With the norm "l2", ε is the length of the change.

    Raises:
        ValueError: There is no such attack; the message lists them all.
    """
    if name not in CATALOGUE:
        raise ValueError(f"there is no attack {name!r}; the attacks are {', '.join([*CATALOGUE, 'evolve'])}")
    entry = CATALOGUE[name]
    norm = {**keywords(entry.attack), **(settings or {})}.get("norm")
    return replace(entry, epsilons=LENGTHS, unit=LENGTH, largest=LONGEST) if norm == "l2" else entry


def checked(name: str, settings: Mapping[str, Any], target: int | None = None) -> dict[str, Any]:
    """Check the settings of an attack.

    Args:
        name: The attack.
        settings: Its settings. A truth value may be the word "true" or "false".
        target: The target, or None.

    Returns:
        The settings.

    Raises:
        ValueError: The attack has no such setting, in which case the message lists all, or takes no target; or a value
            is out of range.
    """
    entry = find_attack(name)
    known = entry.settings()
    if unknown := [key for key in settings if key not in known]:
        defaults = {key: value for key, value in known.items() if not callable(value)} | dict(entry.described)
        some = ", ".join(f"{key}={value!r}" for key, value in defaults.items())
        known_are = f"its settings are {some}" if some else "it has no settings; leave this out"
        raise ValueError(f"{name} has no setting {', '.join(unknown)}; {known_are}")
    if target is not None and not entry.takes_target:
        raise ValueError(f"{name} has no target; leave it out")
    settings = plain_values(settings)
    settings = {key: _truth(key, value) if isinstance(known[key], bool) else value for key, value in settings.items()}
    if entry.check_values:
        entry.check_values(settings)
    else:
        check_by_calling(entry.attack, _images(1), [0], **at_epsilon(settings, entry.epsilons[-1]))
    return settings


def _truth(name: str, value) -> bool:
    """A truth value, also as a word in any case. ValueError for anything else."""
    word = str(value).lower()
    if word not in ("true", "false"):
        raise ValueError(f"{name} is {value!r}; expected true or false")
    return word == "true"


def keywords(function: Callable) -> dict[str, object]:
    """The settings of a function and their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name not in NO_SETTINGS and p.default is not p.empty
    }


def takes(function: Callable, name: str) -> bool:
    """Whether a function has a parameter of this name."""
    return name in inspect.signature(function).parameters
