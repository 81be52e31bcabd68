"""The practical black-box attack: of the network only its labels are known, so another one learns them.

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami, "Practical Black-Box Attacks against Machine Learning", ASIA CCS
2017 (arXiv 1602.02697), algorithm 1. A few images are labelled by the oracle. In each round a substitute learns what is
labelled, and then doubles it: from every image x with the oracle's label y it makes

    x + λ·sign(∇ₓ log F_y(x))        λ = .1, of the other sign every τ = 3 rounds

along which the substitute's answer changes most (Jacobian-based augmentation), and asks the oracle again. With a
reservoir, after σ = 3 rounds only κ = 400 new images are kept in each. What fools the substitute then mostly fools the
oracle: adversarial examples transfer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

import kernels
from rawcnn.attacks.common import check_range, judged, real, run, whole
from rawcnn.attacks.gradient import fgsm
from rawcnn.attacks.result import AttackResult
from rawcnn.nn.execution import choose
from rawcnn.nn.layers import conv, dense, max_pool, relu
from rawcnn.nn.network import Network, check_images
from rawcnn.training.recipes import ONECYCLE, Recipe
from rawcnn.training.step import State, step_of

Oracle = Callable[[np.ndarray], np.ndarray]  # images [N,H,W,3] in [0,1] → labels int [N]
Progress = Callable[[int, int], None]
RECIPE = replace(
    ONECYCLE, name="substitute", source="ours", batch=64, epochs=10, rate=0.02, optimizer="nesterov",
    weight_decay=5e-4, label_smoothing=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Substitute:
    """A network that has learnt an oracle's answers."""

    network: Network
    queries: int  # labels that the oracle gave
    rounds: list[dict[str, float]]  # of each: images labelled so far, and how many of the new ones it had foreseen
    settings: dict[str, object]


def small_cnn(net, images, *, classes: int):
    """What the substitute is, unless another model function is given: [B,H,W,3] → logits [B,classes]."""
    x = relu(net, conv(net, "conv1", images, 32, 3))
    x = max_pool(net, "pool1", x, 2, 2)
    x = relu(net, conv(net, "conv2", x, 64, 3))
    x = max_pool(net, "pool2", x, 2, 2)
    return dense(net, "classifier", relu(net, dense(net, "fc", x, 200)), classes)


class Counted:
    """An oracle that is asked no more than `limit` labels, and keeps count."""

    def __init__(self, oracle: Oracle | Network, classes: int, limit: int):
        self.oracle = labels_of(oracle) if isinstance(oracle, Network) else oracle
        self.classes, self.limit, self.count = classes, limit, 0

    @property
    def left(self) -> int:
        return self.limit - self.count

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.count += len(images)
        return checked_labels(self.oracle, images, self.classes) if len(images) else np.empty(0, np.int32)


def labels_of(network: Network) -> Oracle:
    """The oracle that a network is: it tells labels, and nothing else."""

    def labels(network, images):
        return tf.argmax(network(images), axis=1, output_type=tf.int32)

    return lambda images: run(network, labels, tf.constant(images)).numpy()


def checked_labels(oracle: Oracle, images: np.ndarray, classes: int) -> np.ndarray:
    """The oracle's labels, int32 [N]; ValueError where it gives something else."""
    labels = np.asarray(oracle(images))
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"the oracle gave {labels.dtype} {labels.shape}; expected {len(images)} labels, one an image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"the oracle gave labels from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}")
    return labels.astype(np.int32)


# The substitute ---------------------------------------------------------------------------------------------


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
    """A substitute for `oracle`, from the images `seeds` [N,H,W,3] in [0,1] that it has not learnt from.

    The oracle is any callable images → labels, or a Network, of which only labels are taken. It is asked at most
    `limit` labels: N·2^rounds without a `reservoir` (σ, κ), with which after round σ only κ are added in each; beyond
    the limit images are left out at random. `augmentation` is λ, `turn` is τ. ValueError for what is out of range.
    """
    for what, value in {"rounds": rounds, "turn": turn, "limit": limit, "classes": classes}.items():
        whole(what, value, 1)
    whole("seed", seed, 0), real("augmentation", augmentation, 1.0)
    if reservoir is not None and np.shape(reservoir) != (2,):
        raise ValueError(f"reservoir is {reservoir!r}; expected a round and a number of images, as (3, 400)")
    images = check_range(check_images(seeds)).numpy()
    if images.shape[1] != images.shape[2]:
        raise ValueError(f"seeds are {images.shape[1]}×{images.shape[2]} pixels; expected square images")
    if not 0 < len(images) <= limit:
        raise ValueError(f"there are {len(images)} seeds for {limit} queries; expected 1 to {limit} seeds")
    asked = Counted(oracle, classes, limit)
    network = Network("substitute", lambda net, x: model(net, x, classes=classes), size=images.shape[1],
                      classes=classes, seed=seed)  # fmt: skip
    learn = _learner(network, recipe, compile)
    generator = np.random.Generator(np.random.PCG64(seed))
    labels, told = asked(images), []
    steps = [-(-len(images) * 2**k // recipe.batch) for k in range(rounds + 1)]
    for number in range(rounds + 1):
        learn(images, labels, number, generator)
        if progress:
            progress(sum(steps[: number + 1]), sum(steps))
        if number == rounds:
            break
        way = augmentation * (-1.0) ** (number // turn)
        new = _augmented(network, images, labels, way, compile)
        keep = min(len(new), asked.left, reservoir[1] if reservoir and number >= reservoir[0] else len(new))
        new = new[np.sort(generator.permutation(len(new))[:keep])]  # a reservoir of what came: each as likely
        guesses, answers = labels_of(network)(new) if keep else labels[:0], asked(new)
        foreseen = float(np.mean(guesses == answers)) if keep else 1.0
        told.append({"round": number + 1, "images": len(images) + keep, "foreseen": foreseen})
        images, labels = np.concatenate([images, new]), np.concatenate([labels, answers])
    settings: dict[str, object] = {
        "seeds": len(seeds), "rounds": rounds, "limit": limit, "augmentation": augmentation, "turn": turn,
        "reservoir": list(reservoir) if reservoir else None, "epochs": recipe.epochs, "seed": seed,
    }  # fmt: skip
    return Substitute(network, asked.count, told, settings)


def _learner(network: Network, recipe: Recipe, compile: str) -> Callable:
    """A function that trains the network on (images, labels) for the recipe's epochs, going on from where it is."""
    step = step_of(network, recipe, State.begin(network, recipe), choose(compile))

    def learn(images: np.ndarray, labels: np.ndarray, number: int, generator: np.random.Generator) -> None:
        steps = -(-len(images) // recipe.batch)
        for k in range(recipe.epochs * steps):
            if k % steps == 0:
                order = generator.permutation(len(images))
            rows = np.take(order, range(k % steps * recipe.batch, (k % steps + 1) * recipe.batch), mode="wrap")
            rate = recipe.rate * recipe.schedule(k / steps, recipe.epochs)
            seed = tf.constant([number, k])
            step(tf.constant(images[rows]), tf.constant(labels[rows]), seed, tf.constant(rate, tf.float32))

    return learn


def _augmented(network: Network, images: np.ndarray, labels: np.ndarray, way: float, compile: str, batch: int = 512):
    """x + λ·sign(∇ log F_y) of every image [N,H,W,3], within [0,1]."""
    parts = [
        run(network, _jacobian_step, tf.constant(images[i : i + batch]), tf.constant(labels[i : i + batch]),
            tf.constant(way, tf.float32), compile=compile)
        for i in range(0, len(images), batch)
    ]  # fmt: skip
    return np.concatenate([part.numpy() for part in parts])


def _jacobian_step(network, images, labels, way):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        total = -tf.reduce_sum(kernels.cross_entropy(network(images), labels))  # Σ log F_y
    return tf.clip_by_value(images + way * tf.sign(tape.gradient(total, images)), 0.0, 1.0)


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
    """What fools the substitute, shown to the oracle: `attack` (of a form like `fgsm`) with ε on the one, judged by
    the other.

    Of an oracle that is no Network only labels are known: confidences are NaN. `queries` are 0: the attack itself asks
    nothing; `substitute.queries` were asked before.
    """
    made = attack(substitute.network, images, labels, epsilon=epsilon, compile=compile, **settings)

    def said(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(oracle, Network):
            return judged(oracle, images, compile)
        labels = checked_labels(oracle, images, substitute.network.classes)
        return labels, np.full(len(labels), np.nan, np.float32)

    (before, sure_before), (after, sure) = said(made.originals), said(made.images)
    return replace(
        made, predictions_before=before, predictions=after, confidences_before=sure_before, confidences=sure,
        queries=np.zeros_like(made.queries),
    )  # fmt: skip
