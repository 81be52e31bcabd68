"""Graphs that draw: acyclic by construction, drawn as a loop over pixels draws them; and mutation by its formula."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rawcnn.attacks import cppn
from rawcnn.attacks.cppn import Connection, Genome, Neuron, polynomial_mutation


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def evolved_genome(changes: int, seed: int = 0, outputs: int = 3) -> Genome:
    """A genome after so many mutations."""
    source = generator(seed)
    genome = cppn.draw(source, outputs)
    for _ in range(changes):
        genome = cppn.mutate(genome, source)
    return genome


# Polynomial mutation ----------------------------------------------------------------------------------------


@hypothesis.given(st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_polynomial_mutation_stays_in_range(value, seed):
    moved = polynomial_mutation(np.full(100, value), generator(seed), eta=1.0)
    assert moved.min() >= 0 and moved.max() <= 1


@pytest.mark.parametrize("eta", [7.0, 15.0])
def test_polynomial_mutation_has_its_distribution(eta):
    """P(δ ≤ t) = (1 + t)^(η+1)/2 below 0, 1 − (1 − t)^(η+1)/2 above; it is symmetric, so its mean is 0."""
    count = 200_000
    delta = (polynomial_mutation(np.full(count, 5.0), generator(), low=-5.0, high=15.0, eta=eta) - 5) / 20
    assert abs(delta.mean()) < 4 * delta.std() / math.sqrt(count)
    for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        rest = (2 * min(share, 1 - share)) ** (1 / (eta + 1))
        quantile = rest - 1 if share < 0.5 else 1 - rest
        assert abs(np.mean(delta <= quantile) - share) < 4 * math.sqrt(share * (1 - share) / count)


def test_polynomial_mutation_ends_at_the_border():
    """Of 0, half of the mutants would lie below it, and stay there."""
    moved = polynomial_mutation(np.zeros(10_000), generator())
    assert abs(np.mean(moved == 0) - 0.5) < 0.02


# Graphs that draw -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_mutations_make_no_cycle(seed):
    """Checked by removing neurons without sources until none is left; every output is still there."""
    genome = evolved_genome(1000, seed)
    waiting: dict[int, set[int]] = {neuron.number: set() for neuron in genome.neurons}
    for connection in genome.connections:
        if connection.source >= len(cppn.INPUTS):
            waiting[connection.target].add(connection.source)
    assert len(waiting) > 50 and [n.number for n in genome.neurons[-3:]] == [4, 5, 6]
    while free := {number for number, sources in waiting.items() if not sources}:
        waiting = {number: sources - free for number, sources in waiting.items() if number not in free}
    assert not waiting
    assert all(abs(c.weight) <= cppn.WEIGHT for c in genome.connections)


def by_hand(genome: Genome, x: float, y: float) -> list[float]:
    """One pixel, by recursion from its outputs, in Python's own arithmetic."""
    functions = {
        "sine": math.sin,
        "sigmoid": lambda v: 2 / (1 + math.exp(-v)) - 1,
        "gaussian": lambda v: math.exp(-(v**2)),
        "linear": lambda v: max(-3.0, min(3.0, v)) / 3,
    }
    activations = {neuron.number: neuron.activation for neuron in genome.neurons}
    known = {0: x, 1: y, 2: math.sqrt(x * x + y * y), 3: 1.0}

    def value(number: int) -> float:
        if number not in known:
            total = sum(c.weight * value(c.source) for c in genome.connections if c.target == number)
            known[number] = functions[activations[number]](total)
        return known[number]

    return [abs(value(neuron.number)) for neuron in genome.neurons[-genome.outputs :]]


@pytest.mark.parametrize(("seed", "outputs"), [(0, 3), (1, 1), (2, 3)])
def test_a_genome_draws_what_a_loop_over_pixels_draws(seed, outputs):
    genome = evolved_genome(40, seed, outputs)
    expected = [[by_hand(genome, 2 * j / 5 - 1, 2 * i / 3 - 1) for j in range(6)] for i in range(4)]
    drawn = cppn.evaluate(genome, (4, 6))
    np.testing.assert_allclose(drawn, expected, atol=1e-9)
    assert drawn.min() >= 0 and drawn.max() <= 1


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_a_genome_survives_json(seed, changes):
    genome = evolved_genome(changes, seed)
    assert Genome.from_json(genome.to_json()) == genome


def test_symmetric_functions_draw_symmetric_images():
    """x through a Gaussian is the same left and right; the distance is the same in all four quarters."""
    across = Genome(
        (Neuron(5, "gaussian"), Neuron(6, "sine"), Neuron(4, "sigmoid")),
        (Connection(0, 5, 1.7), Connection(1, 6, 2.3), Connection(5, 4, 3.1), Connection(6, 4, -1.9)),
        outputs=1,
    )
    image = cppn.evaluate(across, (7, 8))
    np.testing.assert_array_equal(image, image[:, ::-1])
    assert np.ptp(image, axis=0).max() > 0.1 and np.ptp(image, axis=1).max() > 0.1
    round_ = Genome((Neuron(4, "sine"),), (Connection(2, 4, 9.0), Connection(3, 4, 0.5)), outputs=1)
    image = cppn.evaluate(round_, (8, 8))
    for other in (image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
        np.testing.assert_array_equal(image, other)


def test_mutation_leaves_the_parent_and_changes_with_its_probabilities():
    """Neurons are added with probability .5 and deleted with .2; one of three weights changes with .5."""
    parent = Genome(
        (Neuron(5, "sine"), Neuron(4, "sine")), (Connection(0, 5, 1.0), Connection(5, 4, 2.0), Connection(3, 4, 3.0)), 1
    )
    before, source, count = parent.to_json(), generator(), 4000
    children = [cppn.mutate(parent, source) for _ in range(count)]
    assert parent.to_json() == before
    kept = [c.weight for child in children for c in child.connections if (c.source, c.target) == (3, 4)]
    assert abs(np.mean(np.array(kept) != 3.0) - 0.5 / 3) < 0.03
    grown = np.array([len(child.neurons) for child in children]) - 2
    assert abs(grown.mean() - (0.5 - 0.2)) < 0.05
    assert abs(np.mean([child.neurons[-1].activation != "sine" for child in children]) - 0.1 * 0.75) < 0.02


@pytest.mark.parametrize(
    ("neurons", "connections", "outputs", "wrong"),
    [
        ([(4, "sine")], [(4, 4, 1.0)], 1, "not a connection"),
        ([(5, "sine"), (6, "sine"), (4, "sine")], [(6, 5, 1.0)], 1, "not a connection"),
        ([(4, "sine")], [(0, 4, math.nan)], 1, "finite"),
        ([(4, "sine")], [(0, 9, 1.0)], 1, "not a connection"),
        ([(5, "sine"), (4, "sine")], [(5, 4, 1.0)], 2, "not a connection"),
        ([(4, "sine")], [(0, 4, 1.0), (0, 4, 2.0)], 1, "two connections"),
        ([(4, "cosine")], [], 1, "expected a unique number and one of sine"),
        ([(3, "sine")], [], 1, "not a neuron"),
        ([(4, "sine")], [], 2, "outputs is 2"),
    ],
)
def test_what_is_no_genome_is_refused(neurons, connections, outputs, wrong):
    with pytest.raises(ValueError, match=wrong):
        Genome(tuple(Neuron(*n) for n in neurons), tuple(Connection(*c) for c in connections), outputs)


@pytest.mark.parametrize("text", ["", "[]", "7", '{"neurons": [], "connections": []}', '{"neurons": [{"id": 1}]}'])
def test_text_that_is_no_genome_is_refused(text):
    with pytest.raises(ValueError, match=r"not a genome|outputs"):
        Genome.from_json(text)


def test_genomes_are_frozen():
    with pytest.raises(AttributeError):
        evolved_genome(1).outputs = 2  # type: ignore[misc]
    assert replace(evolved_genome(1), outputs=1).outputs == 1
