"""Fooling images by evolution: meaningless to people, and classified with high confidence.

Nguyen, Yosinski, Clune, "Deep neural networks are easily fooled", CVPR 2015 (arXiv 1412.1897), section 2.3. The
algorithm is MAP-Elites with one niche per class. A niche's champion is the image with the highest probability of that
class so far. In each generation the children of random champions are tried in every niche. Images are encoded as

    direct    one value per pixel and channel, uniform noise at the start; each changes with a probability of .1, halved
              every 1000 generations, by polynomial mutation with η = 15
    cppn      a small graph that draws a regular image (`cppn.py`)

The channels are hue, saturation and value, or gray, as in the paper, or RGB. Niches compare log-probabilities, so
that a probability of 10⁻⁵⁰ still loses to one of 10⁻⁴⁹.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
from kernels.geometry import Pair, pair
from rawcnn.attacks import cppn
from rawcnn.attacks.checks import check_choice, check_class_count, check_flag, check_integer, check_network
from rawcnn.attacks.common import Classifier, logits_of
from rawcnn.attacks.cppn import Genome
from rawcnn.attacks.runtime import run_compiled
from rawcnn.files.atomic import write_atomic
from rawcnn.files.progress import Progress

MUTATED, HALVED = 0.1, 1000  # the probability that a value changes; the generations after which it is halved
COLORS = ("hsv", "rgb")
SAME = 1e-3  # how far a champion's probability may be from its checkpoint's, because other batches round differently


@dataclass(frozen=True)
class FoolingImages:
    """One image per class; image k is made for class k.

    Attributes:
        images: float32 [classes,H,W,3] in [0,1].
        confidences: float32 [classes], the probability of class k for image k.
        history: float32 [generations or steps,classes], these probabilities over time.
        encoding: "direct" or "cppn"; "gradient" from `ascend`.
        settings: The arguments, by name.
        genomes: With "cppn", to draw the images in any size.
    """

    images: np.ndarray = field(repr=False)
    confidences: np.ndarray
    history: np.ndarray = field(repr=False)
    encoding: str
    settings: dict[str, object]
    genomes: tuple[Genome, ...] = field(default=(), repr=False)

    def summary(self) -> dict[str, object]:
        """The result as values for JSON."""
        return {
            "encoding": self.encoding,
            "images": len(self.images),
            "rounds": len(self.history),
            "median_confidence": float(np.median(self.confidences)),
            "lowest_confidence": float(np.min(self.confidences)),
            "highest_confidence": float(np.max(self.confidences)),
            "share_above_99": float(np.mean(self.confidences >= 0.99)),
        }


def evolve(
    network: Classifier,
    *,
    encoding: str = "direct",
    generations: int = 200,
    population: int = 200,
    size: Pair | None = None,
    grey: bool = False,
    colours: str = "hsv",
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 50,
    compile: str = "auto",
    progress: Progress | None = None,
) -> FoolingImages:
    """Make an image for each class by evolution.

    Args:
        network: A `Network`, or any function images → logits.
        encoding: "direct" or "cppn".
        generations: How many generations.
        population: How many children each has.
        size: Height and width of the images in pixels; the network's own by default.
        grey: Make images with one channel, for networks that were trained on gray images.
        colours: The channels of other images, "hsv" or "rgb".
        seed: Fixes all random choices.
        checkpoint: A file to write, and to resume from if it exists. The resumed run gives the same bits.
        every: The generations between two writes; the file is also written at the end.
        compile: One of `rawcnn.nn.execution.MODES`.
        progress: Called with (generations done, generations in all).

    Returns:
        The images. `history` has the champions' probabilities after each generation.

    Raises:
        ValueError: An argument is out of range, or the checkpoint is damaged or belongs to another run.
    """
    generations, population = check_integer("generations", generations, 1), check_integer("population", population, 1)
    every, seed = check_integer("every", every, 1), check_integer("seed", seed, 0)
    check_choice("encoding", encoding, ENCODINGS), check_choice("colours", colours, COLORS)
    if not isinstance(checkpoint, str | PathLike | None):
        raise ValueError(f"checkpoint is {checkpoint!r}; expected a path, or None for no checkpoint")
    check_network(network)
    check_flag("grey", grey)
    height, width = size_of(network, size)
    metadata: dict[str, object] = {
        "encoding": encoding,
        "colours": "grey" if grey else colours,
        "population": population,
        "size": [height, width],
        "seed": seed,
    }
    code = ENCODINGS[encoding]((height, width), "grey" if grey else colours)

    def judge(genomes: Sequence) -> np.ndarray:
        """Log-probabilities [N,classes] of the images that the genomes encode."""
        return log_probabilities(network, code.images(genomes), population, compile)

    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.exists():
        state = _restored(path, metadata, code, judge, generations)
    else:
        state = first_generation(code, judge, population, seed)
    while state.generation < generations:
        state = next_generation(state, code, judge, population, seed)
        if path is not None and (state.generation % every == 0 or state.generation == generations):
            _save(path, metadata, code, state)
        if progress:
            progress(state.generation, generations)
    images = code.images(state.champions)
    confidences = np.exp(np.diagonal(log_probabilities(network, images, population, compile)))
    genomes = tuple(state.champions) if encoding == "cppn" else ()
    settings = {**metadata, "generations": generations}
    return FoolingImages(images, confidences, state.history, encoding, settings, genomes)


# One generation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    """The state of a run. The rest of the run depends only on this and the seed."""

    champions: list  # one genome per class
    fitness: np.ndarray  # float32 [classes], log-probability of each champion's class
    history: np.ndarray  # float32 [generation,classes], probabilities

    @property
    def generation(self) -> int:
        return len(self.history)


def first_generation(code: _Direct | _Cppn, judge: Callable, population: int, seed: int) -> _State:
    """Generation 0: the best of random genomes in each niche."""
    genomes = code.draw(_generator(seed, 0), population)
    scores = judge(genomes)  # [P,classes]
    best = np.argmax(scores, axis=0)
    return _State([genomes[k] for k in best], np.max(scores, axis=0), np.empty((0, len(best)), np.float32))


def next_generation(state: _State, code: _Direct | _Cppn, judge: Callable, population: int, seed: int) -> _State:
    """One generation of MAP-Elites: a random champion's child replaces the champions that it beats."""
    generator = _generator(seed, state.generation + 1)
    parents = [state.champions[k] for k in generator.integers(len(state.champions), size=population)]
    children = code.mutate(parents, generator, state.generation)
    scores = judge(children)  # [P,classes]
    best, highest = np.argmax(scores, axis=0), np.max(scores, axis=0)  # of each niche
    better = highest > state.fitness
    champions = [children[k] if new else old for k, new, old in zip(best, better, state.champions, strict=True)]
    fitness = np.where(better, highest, state.fitness)
    history = np.concatenate([state.history, np.exp(fitness)[None]])
    return _State(champions, fitness, history)


def _generator(seed: int, generation: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, generation]))


def log_probabilities(network: Classifier, images: np.ndarray, batch: int, compile: str = "auto") -> np.ndarray:
    """float32 [N,classes] of images [N,H,W,3], `batch` at a time. ValueError if any is not finite."""
    parts = [tf.constant(images[k : k + batch]) for k in range(0, len(images), batch)]
    scores = np.concatenate(
        [run_compiled(network, _log_probabilities, part, compile=compile).numpy() for part in parts]
    )
    check_class_count(scores.shape[1])
    if not np.isfinite(scores).all():
        raise ValueError("the network returns logits that are not finite; expected a trained network")
    return scores


def _log_probabilities(network: Classifier, images: tf.Tensor) -> tf.Tensor:
    return kernels.log_softmax(logits_of(network, images))


def size_of(network: Classifier, size: Pair | None) -> tuple[int, int]:
    """(height, width): `size`, or the network's own. ValueError if neither is known."""
    size = getattr(network, "input_size", None) if size is None else size
    if size is None:
        raise ValueError("size is None, and this network has no input_size; give size=, in pixels")
    return pair(size, "size")


# Encodings --------------------------------------------------------------------------------------------------


class _Direct:
    """A genome is an image, float32 [H,W,channels] in [0,1]."""

    def __init__(self, size: tuple[int, int], colours: str):
        self.colours, self.shape = colours, (*size, 1 if colours == "grey" else 3)

    def draw(self, generator: np.random.Generator, count: int) -> list[np.ndarray]:
        return [generator.random(self.shape, dtype=np.float32) for _ in range(count)]

    def mutate(self, parents: Sequence, generator: np.random.Generator, generation: int) -> list[np.ndarray]:
        children = np.stack(parents)
        chosen = generator.random(children.shape, dtype=np.float32) < MUTATED * 0.5 ** (generation // HALVED)
        children[chosen] = cppn.polynomial_mutation(children[chosen], generator)
        return [child.copy() for child in children]  # a view would keep the whole population in memory

    def images(self, genomes: Sequence) -> np.ndarray:
        return colored(np.stack(genomes), self.colours)

    def pack(self, genomes: Sequence) -> np.ndarray:
        return np.stack(genomes)

    def unpack(self, packed: np.ndarray) -> list[np.ndarray]:
        if packed.shape[1:] != self.shape or packed.dtype != np.float32 or not ((packed >= 0) & (packed <= 1)).all():
            raise ValueError(f"its images are {packed.dtype} {packed.shape}; expected float32 {self.shape} in [0,1]")
        return list(packed)


class _Cppn:
    """A genome is a graph that draws the channels."""

    def __init__(self, size: tuple[int, int], colours: str):
        self.colours, self.size, self.outputs = colours, size, 1 if colours == "grey" else 3

    def draw(self, generator: np.random.Generator, count: int) -> list[Genome]:
        return [cppn.draw(generator, self.outputs) for _ in range(count)]

    def mutate(self, parents: Sequence, generator: np.random.Generator, generation: int) -> list[Genome]:
        return [cppn.mutate(parent, generator) for parent in parents]

    def images(self, genomes: Sequence) -> np.ndarray:
        return colored(np.stack([cppn.evaluate(genome, self.size) for genome in genomes]), self.colours)

    def pack(self, genomes: Sequence) -> np.ndarray:
        return np.array(json.dumps([asdict(genome) for genome in genomes]))

    def unpack(self, packed: np.ndarray) -> list[Genome]:
        genomes = [Genome.from_plain(plain) for plain in json.loads(str(packed))]
        if any(genome.outputs != self.outputs for genome in genomes):
            raise ValueError(f"its genomes have other outputs; expected {self.outputs}")
        return genomes


ENCODINGS: dict[str, Callable[..., Any]] = {"direct": _Direct, "cppn": _Cppn}


def colored(channels: np.ndarray, colours: str) -> np.ndarray:
    """Channels […,1 or 3] in [0,1] → RGB float32 […,3]; `colours` is "grey", "rgb" or "hsv" (Smith 1978)."""
    if colours == "hsv":
        hue, saturation, value = np.split(channels, 3, axis=-1)
        sextant = (6 * hue + np.array([5, 3, 1], channels.dtype)) % 6
        channels = value * (1 - saturation * np.clip(np.minimum(sextant, 4 - sextant), 0, 1))
    rgb = np.broadcast_to(channels, (*channels.shape[:-1], 3))
    return np.clip(rgb, 0, 1).astype(np.float32)  # the product may round above 1


# Checkpoints ------------------------------------------------------------------------------------------------


def _save(path: Path, metadata: dict[str, object], code: _Direct | _Cppn, state: _State) -> None:
    packed = BytesIO()
    np.savez(  # not compressed, because noise does not become smaller
        packed,
        settings=np.array(json.dumps(metadata)),
        genomes=code.pack(state.champions),
        fitness=state.fitness,
        history=state.history,
    )
    write_atomic(path, packed.getvalue())


def _restored(path: Path, metadata: dict, code: _Direct | _Cppn, judge: Callable, generations: int) -> _State:
    """The state in the checkpoint. ValueError if it is damaged or belongs to another run."""
    otherwise = "name another checkpoint, or delete it to start again"
    damage = (OSError, EOFError, ValueError, LookupError, TypeError, MemoryError, RecursionError, AttributeError)
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            found = json.loads(str(archive["settings"]))
            fitness, history, packed = (archive[name] for name in ("fitness", "history", "genomes"))
        differ = sorted(key for key in {*metadata, *found} if found.get(key) != metadata.get(key))
        genomes = [] if differ else code.unpack(packed)
        shapes = fitness.shape == history.shape[1:] and (differ or fitness.shape == (len(genomes),))
        if not (
            shapes
            and fitness.dtype == history.dtype == np.float32
            and np.isfinite(fitness).all()
            and np.isfinite(history).all()
        ):
            raise ValueError(f"its fitness {fitness.shape} and history {history.shape} do not fit its genomes")
    except (*damage, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the checkpoint {path} is damaged ({reason}); {otherwise}") from error
    if differ:
        differences = ", ".join(f"{key} is {metadata.get(key)!r}, there {found.get(key)!r}" for key in differ)
        raise ValueError(f"the checkpoint {path} belongs to another run: {differences}; {otherwise}")
    if len(history) > generations:
        raise ValueError(
            f"the checkpoint {path} is at generation {len(history)}, but {generations} are requested; {otherwise}"
        )
    scores = judge(genomes)
    fits = scores.shape == (len(genomes),) * 2
    if not fits or np.max(np.abs(np.exp(np.diagonal(scores)) - np.exp(fitness))) > SAME:
        raise ValueError(
            f"the network does not give the champions the confidences in the checkpoint {path}; {otherwise}"
        )
    return _State(genomes, fitness, history)
