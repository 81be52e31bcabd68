"""The practical black-box attack: only the network's labels are known, so a substitute network learns them.

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine Learning", ASIA CCS
2017 (arXiv 1602.02697), algorithm 1. The oracle labels a few images. In each round the substitute learns what is
labeled. Jacobian-based augmentation then doubles it: from every image x with the oracle's label y it makes

    x + λ·sign(∇ₓ log F_y(x))        λ = .1, with the other sign every τ = 3 rounds

along which the substitute's answer changes most, and asks the oracle for its label. With a reservoir, only κ = 400 new
images per round are kept after round σ = 3. What fools the substitute mostly fools the oracle too: adversarial examples
transfer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.checks import check_attack, check_integer, check_number, check_range, shown
from rawcnn.attacks.common import NO_CLASS, gradient_of, logits_of, predicted
from rawcnn.attacks.gradient import fgsm
from rawcnn.attacks.problem import predict
from rawcnn.attacks.result import AttackResult
from rawcnn.attacks.runtime import run_compiled
from rawcnn.data.augmentation import Augmentation
from rawcnn.files.progress import Progress
from rawcnn.nn.arguments import listed
from rawcnn.nn.execution import choose
from rawcnn.nn.layers import conv, dense, max_pool, relu
from rawcnn.nn.network import Network, check_images
from rawcnn.training.recipes import ONECYCLE, Recipe, check_recipe
from rawcnn.training.step import State, make_step

Oracle = Callable[[np.ndarray], np.ndarray]  # images [N,H,W,3] in [0,1] → labels int [N]
RECIPE = replace(  # without augmentation, because the oracle labels the images as they are
    ONECYCLE, name="substitute", source="ours", batch=64, epochs=10, rate=0.02, optimizer="nesterov",
    weight_decay=5e-4, label_smoothing=0.0, augmentation=Augmentation(),
)  # fmt: skip


@dataclass(frozen=True)
class Substitute:
    """A network that has learned an oracle's answers.

    Attributes:
        network: The substitute.
        queries: The number of labels that the oracle gave.
        rounds: A dict per round: images labeled so far, and the share of new ones predicted correctly.
        settings: The arguments, by name.
    """

    network: Network
    queries: int
    rounds: list[dict[str, float]]
    settings: dict[str, object]


def small_cnn(net, images, *, classes: int):
    """The default substitute: images [B,H,W,3] → logits [B,classes]."""
    x = relu(net, conv(net, "conv1", images, 32, 3))
    x = max_pool(net, "pool1", x, 2, 2, padding="VALID")
    x = relu(net, conv(net, "conv2", x, 64, 3))
    x = max_pool(net, "pool2", x, 2, 2, padding="VALID")
    return dense(net, "classifier", relu(net, dense(net, "fc", x, 200)), classes)


class CountingOracle:
    """An oracle that counts the labels that it gives."""

    def __init__(self, oracle: Oracle | Network, classes: int, limit: int):
        self.oracle = labels_of(oracle) if isinstance(oracle, Network) else oracle
        self.classes, self.limit, self.count = classes, limit, 0

    @property
    def left(self) -> int:
        """How many labels may still be requested."""
        return self.limit - self.count

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.count += len(images)
        return checked_labels(self.oracle, images, self.classes) if len(images) else np.empty(0, np.int32)


def labels_of(network: Network) -> Oracle:
    """A network as an oracle, which returns labels only. ValueError if it answers NaN."""

    def labels(network, images):
        return predicted(logits_of(network, images))

    def oracle(images: np.ndarray) -> np.ndarray:
        found = run_compiled(network, labels, tf.constant(images)).numpy()
        if unknown := int(np.sum(found == NO_CLASS)):
            raise ValueError(
                f"the oracle's answer to {unknown} of {len(found)} images is NaN; expected a trained network"
            )
        return found

    return oracle


def checked_labels(oracle: Oracle, images: np.ndarray, classes: int) -> np.ndarray:
    """The oracle's labels, int32 [N]. ValueError if it returns something else."""
    labels = np.asarray(oracle(images))
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"the oracle gave {labels.dtype} {labels.shape}; expected {len(images)} labels, one per image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"the oracle gave labels from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    return labels.astype(np.int32)


# The substitute ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetGrowth:
    """How the set of labeled images grows (Papernot et al. 2017, sections 4.3 and 4.5)."""

    limit: int
    rounds: int
    size: float  # λ
    turn: int  # τ
    reservoir: tuple[int, int] | None  # σ, κ

    def __post_init__(self) -> None:
        for name in ("rounds", "turn", "limit"):
            self._set(name, check_integer(name, getattr(self, name), 1))
        self._set("size", check_number("augmentation", self.size, 1.0))
        if self.reservoir is None:
            return
        reservoir = listed(self.reservoir)
        if len(reservoir) != 2:
            raise ValueError(
                f"reservoir is {shown(self.reservoir)}; expected a round and a number of images, as (3, 400)"
            )
        first, second = (f"the {place} of reservoir" for place in ("first", "second"))
        self._set("reservoir", (check_integer(first, reservoir[0], 0), check_integer(second, reservoir[1], 0)))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the way to convert a field of a frozen dataclass

    def signed_size(self, number: int) -> float:
        """λ of round `number`, with its sign."""
        return self.size * (-1.0) ** (number // self.turn)

    def kept(self, number: int, made: int, left: int) -> int:
        """How many of the images `made` in round `number` are kept, if `left` labels may be requested."""
        return min(made, left, self.reservoir[1] if self.reservoir and number >= self.reservoir[0] else made)


def make_substitute(
    oracle: Oracle | Network,
    seeds,
    *,
    classes: int,
    limit: int = 6400,
    rounds: int = 6,
    augmentation: float = 0.1,
    turn: int = 3,
    reservoir: tuple[int, int] | None = None,
    model: Callable = small_cnn,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    compile: str = "auto",
    progress: Progress | None = None,
) -> Substitute:
    """Train a substitute for an oracle, from a few images and the oracle's labels.

    Args:
        oracle: Any function images → labels, or a `Network`, of which only labels are used.
        seeds: The first images [N,H,W,3] in [0,1], from which the oracle has not learned.
        classes: How many classes the oracle knows.
        limit: The largest number of labels to request. Beyond it new images are left out at random.
        rounds: How many times the images are augmented. Without a reservoir N·2^rounds labels are requested.
        augmentation: The size λ of an augmentation step, in pixel values of [0,1].
        turn: The number of rounds τ after which λ changes its sign.
        reservoir: (σ, κ): from round σ on, only κ new images are kept per round.
        model: The model function of the substitute.
        recipe: How it is trained in each round. The default has no augmentation, because the oracle labels the images
            as they are; a mirrored digit, for example, may have another label.
        seed: Fixes the first weights and all random choices.
        compile: One of `rawcnn.nn.execution.MODES`.
        progress: Called with (training steps done, training steps in all).

    Returns:
        The substitute.

    Raises:
        ValueError: An argument is out of range, or the oracle returns something other than labels.
    """
    check_recipe(recipe)
    growth = SetGrowth(limit, rounds, augmentation, turn, reservoir)
    classes, seed = check_integer("classes", classes, 2), check_integer("seed", seed, 0)
    images = check_range(check_images(seeds)).numpy()
    most = growth.limit
    if not 0 < len(images) <= most:
        raise ValueError(f"there are {len(images)} seeds for {most} queries; expected 1 to {most} seeds")
    counting = CountingOracle(oracle, classes, most)
    network = Network("substitute", lambda net, x: model(net, x, classes=classes), size=images.shape[1:3],
                      classes=classes, seed=seed)  # fmt: skip
    grown = _grow(counting, images, growth, Trainer(network, recipe, compile, seed), progress)
    settings: dict[str, object] = {
        "seeds": len(images), "rounds": growth.rounds, "limit": growth.limit, "augmentation": growth.size,
        "turn": growth.turn, "reservoir": list(growth.reservoir) if growth.reservoir else None,
        "epochs": recipe.epochs, "seed": seed,
    }  # fmt: skip
    return Substitute(network, counting.count, grown, settings)


def _grow(
    oracle: CountingOracle, images: np.ndarray, growth: SetGrowth, train: Trainer, progress: Progress | None
) -> list[dict]:
    """Algorithm 1: label, train, augment, repeat → `Substitute.rounds`."""
    labels, rounds, total = oracle(images), [], growth.rounds + 1
    work = np.cumsum([train.steps(len(images) * 2**k) for k in range(total)])
    for number in range(total):
        train(images, labels, number)
        if progress:
            progress(int(work[number]), int(work[-1]))
        if number == growth.rounds:
            break
        new = _augmented(train.network, images, labels, growth.signed_size(number), train.compile)
        keep = growth.kept(number, len(new), oracle.left)
        new = new[np.sort(train.generator.permutation(len(new))[:keep])]  # each image is equally likely to be kept
        guesses, answers = labels_of(train.network)(new) if keep else labels[:0], oracle(new)
        foreseen = float(np.mean(guesses == answers)) if keep else 1.0
        rounds.append({"round": number + 1, "images": len(images) + keep, "foreseen": foreseen})
        images, labels = np.concatenate([images, new]), np.concatenate([labels, answers])
    return rounds


class Trainer:
    """Trains the substitute for the recipe's epochs, from its present weights."""

    def __init__(self, network: Network, recipe: Recipe, compile: str, seed: int):
        self.network, self.recipe, self.compile = network, recipe, compile
        self.generator = np.random.Generator(np.random.PCG64(seed))
        self.step = make_step(network, recipe, State.begin(network, recipe), choose(compile))

    def steps(self, count: int) -> int:
        """The steps of an epoch over `count` images."""
        return -(-count // self.recipe.batch)

    def __call__(self, images: np.ndarray, labels: np.ndarray, number: int) -> None:
        recipe, steps = self.recipe, self.steps(len(images))
        for k in range(recipe.epochs * steps):
            if k % steps == 0:
                order = self.generator.permutation(len(images))
            rows = np.take(order, range(k % steps * recipe.batch, (k % steps + 1) * recipe.batch), mode="wrap")
            rate = recipe.rate * recipe.schedule(k / steps, recipe.epochs)
            seed = tf.constant([number, k])
            self.step(tf.constant(images[rows]), tf.constant(labels[rows]), seed, tf.constant(rate, tf.float32))


def _augmented(network: Network, images: np.ndarray, labels: np.ndarray, size: float, compile: str, batch: int = 512):
    """x + λ·sign(∇ₓ log F_y) of every image [N,H,W,3], within [0,1]."""
    parts = [
        run_compiled(network, _jacobian_step, tf.constant(images[i : i + batch]), tf.constant(labels[i : i + batch]),
                     tf.constant(size, tf.float32), compile=compile)
        for i in range(0, len(images), batch)
    ]  # fmt: skip
    return np.concatenate([part.numpy() for part in parts])


def _jacobian_step(network, images, labels, size):
    """x + λ·sign(∇ₓ log F_y(x)), clipped to [0,1]."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        total = -tf.reduce_sum(kernels.cross_entropy(network(images), labels))  # Σ log F_y
    return tf.clip_by_value(images + size * tf.sign(gradient_of(tape, total, images)), 0.0, 1.0)


# The attack -------------------------------------------------------------------------------------------------


def substitute(
    oracle: Oracle | Network,
    images,
    labels,
    *,
    substitute: Substitute,
    epsilon: float = 0.3,
    attack: Callable[..., AttackResult] = fgsm,
    compile: str = "auto",
    **settings,
) -> AttackResult:
    """Attack the substitute and show the attacked images to the oracle.

    Args:
        oracle: Any function images → labels, or a `Network`.
        images: RGB images [B,H,W,3] in [0,1].
        labels: The true classes, int [B].
        substitute: What `make_substitute` returned.
        epsilon: The ε of the attack, in pixel values of [0,1].
        attack: `fgsm`, or a function with the same form.
        compile: One of `rawcnn.nn.execution.MODES`.
        settings: Further keywords of the attack; `early_stop=False` lets iterated attacks transfer better.

    Returns:
        The attacked images and the oracle's predictions of them. Confidences are NaN if the oracle is not a `Network`.
        `queries` are 0, because the attack itself asks the oracle nothing; `substitute.queries` were asked before.

    Raises:
        ValueError: An argument is out of range, or the oracle returns something other than labels.
    """
    if not isinstance(substitute, Substitute):
        raise ValueError(f"substitute is {shown(substitute)}; expected what make_substitute returns")
    check_attack(attack)
    found = attack(substitute.network, images, labels, epsilon=epsilon, compile=compile, **settings)

    def ask(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(oracle, Network):
            return predict(oracle, images, compile)
        labels = checked_labels(oracle, images, substitute.network.classes)
        return labels, np.full(len(labels), np.nan, np.float32)

    (before, confidences_before), (after, confidences) = ask(found.originals), ask(found.images)
    return replace(
        found, predictions_before=before, predictions=after, confidences_before=confidences_before,
        confidences=confidences, queries=np.zeros_like(found.queries),
    )  # fmt: skip
