"""Images that mean nothing to people and that a network is sure about, by evolution.

Nguyen, Yosinski, Clune, "Deep neural networks are easily fooled", CVPR 2015 (arXiv 1412.1897), section 2.3: MAP-Elites
with a niche for each class, whose champion is the image that the network has given that class the highest probability.
A generation is a population of children of champions drawn at random, each tried in every niche. Images are encoded

    direct    a number for each pixel and channel, at first uniform noise; each is changed with a probability of .1,
              halved every 1000 generations, by polynomial mutation with η = 15
    cppn      a small graph that draws them (`cppn.py`), so that they are regular

with channels that are hue, saturation and value, or grey, as in the paper, or RGB. Niches compare log-probabilities:
the same order, but an image that has a probability of 10⁻⁵⁰ still loses to one of 10⁻⁴⁹.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import kernels
from kernels.geometry import Pair, pair
from rawcnn.attacks import cppn
from rawcnn.attacks.common import Model, logits_of, run, whole
from rawcnn.attacks.cppn import Genome
from rawcnn.files.atomic import write_atomic

MUTATED, HALVED = 0.1, 1000  # probability that a number changes; generations after which it is half
COLOURS = ("hsv", "rgb")
SAME = 1e-3  # by how much a champion's probability may differ from its checkpoint's: other batches round differently
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FoolingImages:
    """An image for each class, image k made for class k."""

    images: np.ndarray = field(repr=False)  # float32 [classes,H,W,3] in [0,1]
    confidences: np.ndarray  # float32 [classes], probability of image k's class k, of the images as they are here
    history: np.ndarray = field(repr=False)  # float32 [generations or steps,classes] the same on the way
    encoding: str  # "direct", "cppn"; "gradient" of `ascend`
    settings: dict[str, object]
    genomes: tuple[Genome, ...] = field(default=(), repr=False)  # of "cppn", to draw them in any size

    def summary(self) -> dict[str, object]:
        """Plain numbers, for JSON."""
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
    network: Model,
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
    """An image of `size` pixels (the network's own) for each class, after `generations` of `population` children.

    `network` is any function images [B,H,W,3] in [0,1] → logits. `encoding` is "direct" or "cppn"; a `grey` image has
    one number a pixel, for networks that never saw colours, else three, which `colours` names "hsv" or "rgb". The first
    population is random. `checkpoint` is a file that is written `every` so many generations and at the end; where it is
    there, the run goes on from it, to the same bits as if undisturbed. progress(done, total) counts generations.
    ValueError for what is out of range, and for a checkpoint that is damaged or of another run.
    """
    for what, value in (("generations", generations), ("population", population), ("every", every)):
        whole(what, value, 1)
    whole("seed", seed, 0)
    if encoding not in ENCODINGS or colours not in COLOURS:
        raise ValueError(
            f"encoding is {encoding!r}, colours {colours!r}; expected {' or '.join(ENCODINGS)}, {' or '.join(COLOURS)}"
        )
    height, width = size_of(network, size)
    described: dict[str, object] = {
        "encoding": encoding,
        "colours": "grey" if grey else colours,
        "population": int(population),
        "size": [height, width],
        "seed": int(seed),
    }
    code = ENCODINGS[encoding]((height, width), "grey" if grey else colours)

    def judge(genomes: Sequence) -> np.ndarray:
        """Log-probabilities [N,classes], of the whole population at once."""
        return log_probabilities(network, code.images(genomes), population, compile)

    path = Path(checkpoint) if checkpoint is not None else None
    if path is not None and path.exists():
        state = _restored(path, described, code, judge, generations)
    else:
        state = _first(code, judge, population, seed)
    while state.generation < generations:
        state = _next(state, code, judge, population, seed)
        if path is not None and (state.generation % every == 0 or state.generation == generations):
            _save(path, described, code, state)
        if progress:
            progress(state.generation, generations)
    images = code.images(state.champions)
    confidences = np.exp(np.diagonal(log_probabilities(network, images, population, compile)))
    genomes = tuple(state.champions) if encoding == "cppn" else ()
    settings = {**described, "generations": int(generations)}
    return FoolingImages(images, confidences, state.history, encoding, settings, genomes)


# One generation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    """Where a run stands. What comes after depends on this and the seed alone."""

    champions: list  # a genome a class
    fitness: np.ndarray  # float32 [classes], log-probability of each champion's class
    history: np.ndarray  # float32 [generation,classes], probabilities

    @property
    def generation(self) -> int:
        return len(self.history)


def _first(code: _Direct | _Cppn, judge: Callable, population: int, seed: int) -> _State:
    """Generation 0: random genomes, the best in each niche."""
    genomes = code.draw(_generator(seed, 0), population)
    scores = judge(genomes)  # [P,classes]
    best = np.argmax(scores, axis=0)
    return _State([genomes[k] for k in best], np.max(scores, axis=0), np.empty((0, len(best)), np.float32))


def _next(state: _State, code: _Direct | _Cppn, judge: Callable, population: int, seed: int) -> _State:
    """Children of champions drawn uniformly, each tried in every niche: it takes those where it is better."""
    generator = _generator(seed, state.generation + 1)
    parents = [state.champions[k] for k in generator.integers(len(state.champions), size=population)]
    children = code.mutate(parents, generator, state.generation)
    scores = judge(children)
    best, highest = np.argmax(scores, axis=0), np.max(scores, axis=0)
    better = highest > state.fitness
    champions = [children[k] if new else old for k, new, old in zip(best, better, state.champions, strict=True)]
    fitness = np.where(better, highest, state.fitness)
    history = np.concatenate([state.history, np.exp(fitness)[None]])
    return _State(champions, fitness, history)


def _generator(seed: int, generation: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, generation]))


def log_probabilities(network: Model, images: np.ndarray, batch: int, compile: str = "auto") -> np.ndarray:
    """float32 [N,classes] of images [N,H,W,3], `batch` at a time. ValueError where the network's are not finite."""
    parts = [tf.constant(images[k : k + batch]) for k in range(0, len(images), batch)]
    scores = np.concatenate([run(network, _log_probabilities, part, compile=compile).numpy() for part in parts])
    if not np.isfinite(scores).all():
        raise ValueError("the network gives logits that are not finite numbers; expected a trained network")
    return scores


def _log_probabilities(network: Model, images: tf.Tensor) -> tf.Tensor:
    return kernels.log_softmax(logits_of(network, images))


def size_of(network: Model, size: Pair | None) -> tuple[int, int]:
    """(height, width): `size`, or that of the network's images. ValueError where nobody says it."""
    size = getattr(network, "input_size", None) if size is None else size
    if size is None:
        raise ValueError("size is None, and this network does not say what images it takes; give size=, in pixels")
    return pair(size, "size")


# Encodings --------------------------------------------------------------------------------------------------


class _Direct:
    """A genome is its pixels, float32 [H,W,channels] in [0,1]."""

    def __init__(self, size: tuple[int, int], colours: str):
        self.colours, self.shape = colours, (*size, 1 if colours == "grey" else 3)

    def draw(self, generator: np.random.Generator, count: int) -> list[np.ndarray]:
        return [generator.random(self.shape, dtype=np.float32) for _ in range(count)]

    def mutate(self, parents: Sequence, generator: np.random.Generator, generation: int) -> list[np.ndarray]:
        children = np.stack(parents)
        chosen = generator.random(children.shape, dtype=np.float32) < MUTATED * 0.5 ** (generation // HALVED)
        children[chosen] = cppn.polynomial_mutation(children[chosen], generator)
        return [child.copy() for child in children]  # a view that stays champion would keep the whole population

    def images(self, genomes: Sequence) -> np.ndarray:
        return coloured(np.stack(genomes), self.colours)

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
        return coloured(np.stack([cppn.evaluate(genome, self.size) for genome in genomes]), self.colours)

    def pack(self, genomes: Sequence) -> np.ndarray:
        return np.array(json.dumps([asdict(genome) for genome in genomes]))

    def unpack(self, packed: np.ndarray) -> list[Genome]:
        genomes = [Genome.from_plain(plain) for plain in json.loads(str(packed))]
        if any(genome.outputs != self.outputs for genome in genomes):
            raise ValueError(f"its genomes have other outputs; expected {self.outputs}")
        return genomes


ENCODINGS: dict[str, Callable[..., Any]] = {"direct": _Direct, "cppn": _Cppn}


def coloured(channels: np.ndarray, colours: str) -> np.ndarray:
    """[…,channels] in [0,1] → RGB float32 […,3]: of one "grey", of "rgb", or of "hsv" (Smith 1978)."""
    if colours == "hsv":
        hue, saturation, value = np.split(channels, 3, axis=-1)
        sextant = (6 * hue + np.array([5, 3, 1], channels.dtype)) % 6
        channels = value * (1 - saturation * np.clip(np.minimum(sextant, 4 - sextant), 0, 1))
    rgb = np.broadcast_to(channels, (*channels.shape[:-1], 3))
    return np.clip(rgb, 0, 1).astype(np.float32)  # the product may round above 1


# Checkpoints ------------------------------------------------------------------------------------------------


def _save(path: Path, described: dict[str, object], code: _Direct | _Cppn, state: _State) -> None:
    packed = BytesIO()
    np.savez(  # not compressed: noise cannot be
        packed,
        settings=np.array(json.dumps(described)),
        genomes=code.pack(state.champions),
        fitness=state.fitness,
        history=state.history,
    )
    write_atomic(path, packed.getvalue())


def _restored(path: Path, described: dict, code: _Direct | _Cppn, judge: Callable, generations: int) -> _State:
    """The state that the checkpoint holds, where it is whole and of this run."""
    otherwise = "name another checkpoint, or delete it to start anew"
    damage = (OSError, EOFError, ValueError, LookupError, TypeError, MemoryError, RecursionError, AttributeError)
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            found = json.loads(str(archive["settings"]))
            fitness, history, packed = (archive[name] for name in ("fitness", "history", "genomes"))
        differ = sorted(key for key in {*described, *found} if found.get(key) != described.get(key))
        genomes = [] if differ else code.unpack(packed)
        shapes = fitness.shape == history.shape[1:] and (differ or fitness.shape == (len(genomes),))
        if not (
            shapes
            and fitness.dtype == history.dtype == np.float32
            and np.isfinite(fitness).all()
            and np.isfinite(history).all()
        ):
            raise ValueError(f"a fitness of {fitness.shape} and a history of {history.shape} do not fit its genomes")
    except (*damage, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the checkpoint {path} is damaged ({reason}); {otherwise}") from error
    if differ:
        told = ", ".join(f"{key} is {described.get(key)!r}, there {found.get(key)!r}" for key in differ)
        raise ValueError(f"the checkpoint {path} is of another run: {told}; {otherwise}")
    if len(history) > generations:
        raise ValueError(
            f"the checkpoint {path} stands at generation {len(history)}, and {generations} are wanted; {otherwise}"
        )
    scores = judge(genomes)
    fits = scores.shape == (len(genomes),) * 2
    if not fits or np.max(np.abs(np.exp(np.diagonal(scores)) - np.exp(fitness))) > SAME:
        raise ValueError(f"the network is not as sure of the champions as the checkpoint {path} says; {otherwise}")
    return _State(genomes, fitness, history)
