"""Compositional pattern-producing networks: small graphs of smooth functions that draw an image pixel by pixel.

Stanley, "Compositional pattern producing networks", Genetic Programming and Evolvable Machines 8, 2007. A genome is a
graph without cycles; it is asked at every pixel for (x, y, distance to the centre, bias) and what its outputs say is
the pixel. Symmetry comes from the even functions, repetition from the sine. Functions, mutations and their
probabilities are those of Nguyen, Yosinski, Clune, CVPR 2015 (sferes2 with its module nn2); each activation lies in
[−1,1], so no graph overflows, and |output| is a pixel in [0,1] as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite

import numpy as np

INPUTS = ("x", "y", "distance", "bias")  # the numbers 0 to 3; neurons are numbered from 4
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sine": np.sin,
    "sigmoid": lambda v: np.tanh(v / 2),  # 2·σ(v) − 1
    "gaussian": lambda v: np.exp(-v * v),
    "linear": lambda v: np.clip(v / 3, -1.0, 1.0),
}
NAMES = tuple(ACTIVATIONS)
WEIGHT = 10.0  # weights lie in [−10,10]
ADD_CONNECTION, DELETE_CONNECTION, CHANGE_WEIGHT = 0.5, 0.3, 0.5
ADD_NEURON, DELETE_NEURON = 0.5, 0.2
CHANGE_ACTIVATION = 0.1  # of each neuron
ETA = 15.0  # of the polynomial mutation: the larger, the shorter its steps


@dataclass(frozen=True)
class Neuron:
    """A sum of what arrives, through an activation."""

    number: int
    activation: str


@dataclass(frozen=True)
class Connection:
    """From an input or a neuron to a neuron behind it."""

    source: int
    target: int
    weight: float


@dataclass(frozen=True)
class Genome:
    """A graph whose neurons stand in an order in which every connection goes forward; the last are the outputs.

    ValueError for anything else: there is no genome with a cycle.
    """

    neurons: tuple[Neuron, ...]
    connections: tuple[Connection, ...]
    outputs: int

    def __post_init__(self):
        place = {number: -1 for number in range(len(INPUTS))}
        for neuron in self.neurons:
            if type(neuron.number) is not int or neuron.number in place or neuron.activation not in ACTIVATIONS:
                raise ValueError(f"{neuron} is no neuron; expected a number of its own and one of {', '.join(NAMES)}")
            place[neuron.number] = len(place)
        if type(self.outputs) is not int or not 1 <= self.outputs <= len(self.neurons):
            raise ValueError(f"outputs is {self.outputs!r}; expected 1 to {len(self.neurons)}, the number of neurons")
        if len({(c.source, c.target) for c in self.connections}) < len(self.connections):
            raise ValueError("two connections join the same neurons; expected one weight for each pair")
        last = {neuron.number for neuron in self.neurons[-self.outputs :]}
        for c in self.connections:
            known = c.source in place and c.target in place and c.source not in last
            if not known or place[c.source] >= place[c.target] or not isfinite(c.weight):
                raise ValueError(f"{c} is no connection of this genome; expected one forward, of a finite weight")

    def to_json(self) -> str:
        """Text that `from_json` makes the same genome of, to the last bit of a weight."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Genome:
        """The genome of `to_json`. ValueError for any other text."""
        try:
            return cls.from_plain(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"this is no genome in JSON: {error}") from error

    @classmethod
    def from_plain(cls, plain: Mapping) -> Genome:
        """The genome of dictionaries and lists, as JSON has them. ValueError where they make none."""
        try:
            return cls(
                tuple(Neuron(**neuron) for neuron in plain["neurons"]),
                tuple(Connection(**connection) for connection in plain["connections"]),
                plain["outputs"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no genome ({error}); expected neurons, connections and outputs") from error


def polynomial_mutation(
    values: np.ndarray, generator: np.random.Generator, low: float = 0.0, high: float = 1.0, eta: float = ETA
) -> np.ndarray:
    """Each of the values in [low,high] moved by its own δ·(high − low), and clipped to the range.

        δ = (2u)^(1/(η+1)) − 1  where u < ½,   1 − (2(1 − u))^(1/(η+1))  otherwise       u uniform in [0,1)

    Deb & Agrawal 1999, whose density is (η+1)/2·(1 − |δ|)^η. Clipped as in sferes2, not drawn from what is left.
    """
    u = generator.random(np.shape(values))
    root = np.minimum(2 * u, 2 * (1 - u)) ** (1 / (eta + 1))  # 1 − |δ|
    return np.clip(values + np.where(u < 0.5, root - 1, 1 - root) * (high - low), low, high)


def draw(generator: np.random.Generator, outputs: int) -> Genome:
    """A first genome: every input joined to every output, random weights and activations, nothing between."""
    neurons = tuple(Neuron(len(INPUTS) + k, _activation(generator)) for k in range(outputs))
    pairs = [(source, neuron.number) for neuron in neurons for source in range(len(INPUTS))]
    return Genome(neurons, tuple(Connection(s, t, _weight(generator)) for s, t in pairs), outputs)


def mutate(genome: Genome, generator: np.random.Generator) -> Genome:
    """A child: each kind of change happens, or not, with its probability."""
    neurons = list(genome.neurons)
    weights = {(c.source, c.target): c.weight for c in genome.connections}
    if weights and generator.random() < CHANGE_WEIGHT:
        pair = _one_of(list(weights), generator)
        weights[pair] = float(polynomial_mutation(np.array(weights[pair]), generator, -WEIGHT, WEIGHT))
    for k in np.flatnonzero(generator.random(len(neurons)) < CHANGE_ACTIVATION):
        neurons[k] = Neuron(neurons[k].number, _activation(generator))
    if generator.random() < ADD_CONNECTION:
        _add_connection(neurons, weights, genome.outputs, generator)
    if weights and generator.random() < DELETE_CONNECTION:
        del weights[_one_of(list(weights), generator)]
    if weights and generator.random() < ADD_NEURON:
        _add_neuron(neurons, weights, genome.outputs, generator)
    if len(neurons) > genome.outputs and generator.random() < DELETE_NEURON:
        gone = neurons.pop(generator.integers(len(neurons) - genome.outputs)).number
        weights = {pair: weight for pair, weight in weights.items() if gone not in pair}
    return Genome(tuple(neurons), tuple(Connection(s, t, w) for (s, t), w in weights.items()), genome.outputs)


def _add_connection(neurons, weights, outputs, generator) -> None:
    """Join an input or hidden neuron to a neuron behind it; where they are joined already, nothing changes."""
    order = [*range(len(INPUTS)), *(neuron.number for neuron in neurons)]
    place = int(generator.integers(len(order) - outputs))
    pair = order[place], order[int(generator.integers(max(place + 1, len(INPUTS)), len(order)))]
    weights.setdefault(pair, _weight(generator))


def _add_neuron(neurons, weights, outputs, generator) -> None:
    """Put a new neuron onto a connection: what arrives has the weight 1, what leaves the old one (NEAT)."""
    source, target = pair = _one_of(list(weights), generator)
    number = 1 + max(neuron.number for neuron in neurons)
    place = next(k for k, neuron in enumerate(neurons) if neuron.number == target)
    neurons.insert(min(place, len(neurons) - outputs), Neuron(number, _activation(generator)))
    weights[source, number], weights[number, target] = 1.0, weights.pop(pair)


def evaluate(genome: Genome, size: tuple[int, int]) -> np.ndarray:
    """What the genome draws: float64 [H,W,outputs] in [0,1]. All pixels at once, neuron by neuron."""
    arriving: dict[int, list[Connection]] = {neuron.number: [] for neuron in genome.neurons}
    for connection in genome.connections:
        arriving[connection.target].append(connection)
    values = dict(enumerate(coordinates(*size)))
    for neuron in genome.neurons:
        total = np.zeros(size)
        for connection in arriving[neuron.number]:  # summed in this order on every machine, unlike a matrix product
            total += connection.weight * values[connection.source]
        values[neuron.number] = ACTIVATIONS[neuron.activation](total)
    return np.abs(np.stack([values[neuron.number] for neuron in genome.neurons[-genome.outputs :]], axis=-1))


@lru_cache(maxsize=4)
def coordinates(height: int, width: int) -> np.ndarray:
    """float64 [4,H,W], read-only: x and y from −1 to 1, exactly symmetric; the distance to the centre; 1."""
    rows, columns = ((2 * np.arange(n) - (n - 1)) / max(n - 1, 1) for n in (height, width))
    x, y = np.meshgrid(columns, rows)
    grid = np.stack([x, y, np.hypot(x, y), np.ones_like(x)])
    grid.setflags(write=False)
    return grid


def _one_of(things: list, generator: np.random.Generator):
    return things[int(generator.integers(len(things)))]


def _activation(generator: np.random.Generator) -> str:
    return _one_of(list(NAMES), generator)


def _weight(generator: np.random.Generator) -> float:
    return float(generator.uniform(-WEIGHT, WEIGHT))
