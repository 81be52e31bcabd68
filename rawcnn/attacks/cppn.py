"""Compositional pattern-producing networks: small graphs of smooth functions that draw an image pixel by pixel.

Stanley, "Compositional pattern producing networks", Genetic Programming and Evolvable Machines 8, 2007. A genome is a
graph without cycles. It maps (x, y, distance to the center, bias) of each pixel to the pixel's channels. Even functions
make images symmetric, and the sine makes them repeat. Functions, mutations and probabilities are those of Nguyen,
Yosinski, Clune, CVPR 2015 (sferes2 with its module nn2). Each activation lies in [−1,1], so no graph overflows, and
|output| is a channel in [0,1].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from math import isfinite

import numpy as np

INPUTS = ("x", "y", "distance", "bias")  # numbered 0 to 3; neurons are numbered from 4
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
ETA = 15.0  # of the polynomial mutation; a larger value makes smaller changes


@dataclass(frozen=True)
class Neuron:
    """The activation of a weighted sum."""

    number: int
    activation: str


@dataclass(frozen=True)
class Connection:
    """A weight from an input or a neuron to a later neuron."""

    source: int
    target: int
    weight: float


@dataclass(frozen=True)
class Genome:
    """A graph without cycles: every connection goes forward in the order of the neurons. The last are the outputs.

    Raises:
        ValueError: A neuron or a connection is not valid.
    """

    neurons: tuple[Neuron, ...]
    connections: tuple[Connection, ...]
    outputs: int

    def __post_init__(self):
        place = {number: -1 for number in range(len(INPUTS))}
        for neuron in self.neurons:
            if type(neuron.number) is not int or neuron.number in place or neuron.activation not in ACTIVATIONS:
                raise ValueError(f"{neuron} is not a neuron; expected a unique number and one of {', '.join(NAMES)}")
            place[neuron.number] = len(place)
        if type(self.outputs) is not int or not 1 <= self.outputs <= len(self.neurons):
            raise ValueError(f"outputs is {self.outputs!r}; expected 1 to {len(self.neurons)}, the number of neurons")
        if len({(c.source, c.target) for c in self.connections}) < len(self.connections):
            raise ValueError("two connections join the same neurons; expected one weight for each pair")
        last = {neuron.number for neuron in self.neurons[-self.outputs :]}
        for c in self.connections:
            known = c.source in place and c.target in place and c.source not in last
            if not known or place[c.source] >= place[c.target] or not isfinite(c.weight):
                raise ValueError(f"{c} is not a connection of this genome; expected a forward one with a finite weight")

    def to_json(self) -> str:
        """The genome as JSON, from which `from_json` restores every bit."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Genome:
        """The genome that `to_json` wrote. ValueError for any other text."""
        try:
            return cls.from_plain(json.loads(text))
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"this is not a genome in JSON: {error}") from error

    @classmethod
    def from_plain(cls, plain: Mapping) -> Genome:
        """A genome from dictionaries and lists, as JSON has them. ValueError if they describe none."""
        try:
            return cls(
                tuple(Neuron(**neuron) for neuron in plain["neurons"]),
                tuple(Connection(**connection) for connection in plain["connections"]),
                plain["outputs"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a genome ({error}); expected neurons, connections and outputs") from error


def polynomial_mutation(
    values: np.ndarray, generator: np.random.Generator, low: float = 0.0, high: float = 1.0, eta: float = ETA
) -> np.ndarray:
    """Add δ·(high − low) to each value in [low,high], with a δ of its own, and clip to the range.

        δ = (2u)^(1/(η+1)) − 1  if u < ½,   1 − (2(1 − u))^(1/(η+1))  otherwise       u uniform in [0,1)

    Deb & Agrawal 1999; δ has the density (η+1)/2·(1 − |δ|)^η. The values are clipped, as in sferes2.
    """
    u = generator.random(np.shape(values))
    root = np.minimum(2 * u, 2 * (1 - u)) ** (1 / (eta + 1))  # 1 − |δ|
    return np.clip(values + np.where(u < 0.5, root - 1, 1 - root) * (high - low), low, high)


def draw(generator: np.random.Generator, outputs: int) -> Genome:
    """A first genome: every input connected to every output, with random weights and activations."""
    neurons = tuple(Neuron(len(INPUTS) + k, _activation(generator)) for k in range(outputs))
    pairs = [(source, neuron.number) for neuron in neurons for source in range(len(INPUTS))]
    return Genome(neurons, tuple(Connection(s, t, _weight(generator)) for s, t in pairs), outputs)


def mutate(genome: Genome, generator: np.random.Generator) -> Genome:
    """A child; each kind of change happens with its own probability."""
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
        deleted = neurons.pop(generator.integers(len(neurons) - genome.outputs)).number
        weights = {pair: weight for pair, weight in weights.items() if deleted not in pair}
    return Genome(tuple(neurons), tuple(Connection(s, t, w) for (s, t), w in weights.items()), genome.outputs)


def _add_connection(neurons, weights, outputs, generator) -> None:
    """Connect an input or hidden neuron to a later neuron, unless they are connected already."""
    order = [*range(len(INPUTS)), *(neuron.number for neuron in neurons)]
    place = int(generator.integers(len(order) - outputs))
    pair = order[place], order[int(generator.integers(max(place + 1, len(INPUTS)), len(order)))]
    weights.setdefault(pair, _weight(generator))


def _add_neuron(neurons, weights, outputs, generator) -> None:
    """Split a connection by a new neuron; the first half gets the weight 1, the second the old weight (NEAT)."""
    source, target = pair = _one_of(list(weights), generator)
    number = 1 + max(neuron.number for neuron in neurons)
    place = next(k for k, neuron in enumerate(neurons) if neuron.number == target)
    neurons.insert(min(place, len(neurons) - outputs), Neuron(number, _activation(generator)))
    weights[source, number], weights[number, target] = 1.0, weights.pop(pair)


def evaluate(genome: Genome, size: tuple[int, int]) -> np.ndarray:
    """The image that the genome draws, float64 [H,W,outputs] in [0,1]; all pixels at once, neuron by neuron."""
    arriving: dict[int, list[Connection]] = {neuron.number: [] for neuron in genome.neurons}
    for connection in genome.connections:
        arriving[connection.target].append(connection)
    values = dict(enumerate(coordinates(*size)))
    for neuron in genome.neurons:
        total = np.zeros(size)
        for connection in arriving[neuron.number]:  # a fixed order of summation, unlike a matrix product
            total += connection.weight * values[connection.source]
        values[neuron.number] = ACTIVATIONS[neuron.activation](total)
    return np.abs(np.stack([values[neuron.number] for neuron in genome.neurons[-genome.outputs :]], axis=-1))


@lru_cache(maxsize=4)
def coordinates(height: int, width: int) -> np.ndarray:
    """The inputs, float64 [4,H,W], read-only: x and y from −1 to 1, exactly symmetric; distance to the center; 1."""
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
