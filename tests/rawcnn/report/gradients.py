"""Clicks on pixels, taps and weights of an explanation, and what their gradients should be.

The page's numbers are compared with the kernels' gradients in float64, on the arrays that the network's operations
read, and with the network's own backward pass.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

import rawcnn
from rawcnn.explain import explain
from rawcnn.explain.units import as_map
from rawcnn.nn.backpropagation import GRADIENT_RULES
from rawcnn.nn.network import Network
from rawcnn.report.explanation_page import write_explanation
from tests import references
from tests.benchmarks.toys import scramble
from tests.rawcnn.report.browser import Explained
from tests.rawcnn.report.test_explanation_page import every_kind

RELATIVE = 1e-5


def small_network() -> Network:
    """Return a network with an operation of every kind."""
    return scramble(Network("every kind", every_kind, size=8, classes=7, seed=1))


def written(network, folder, **settings):
    """Return the network, an image, its explanation and the page."""
    image = references.random((*network.image_size, 3), 5, low=0.0).numpy()
    explanation = explain(network, image, **settings)
    return network, image, explanation, write_explanation(explanation, folder)


def written_completely(network, folder, **settings):
    """The same, with the arrays of all operations in the page."""
    return written(network, folder, layers=[operation.name for operation in network.operations], **settings)


def gradients(op, recording) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Return the gradients to an operation's inputs and parameters, in float64 from its float32 arrays."""

    def wide(x):
        return tf.cast(x, tf.float64)

    exact = op._replace(
        inputs=tuple(map(wide, op.inputs)),
        parameters={leaf: wide(value) for leaf, value in op.parameters.items()},
        output=wide(op.output),
    )
    to_inputs, to_parameters = GRADIENT_RULES[op.kind](exact, wide(recording.tensors[f"∂{op.name}"][None]))
    return [as_map(x[0].numpy()) for x in to_inputs], {leaf: x.numpy() for leaf, x in to_parameters.items()}


def close_to(said: float, own: float, among: np.ndarray) -> bool:
    """Return whether a number is the network's own, up to float32's rounding of the largest one."""
    return abs(said - float(own)) <= RELATIVE * float(np.abs(among).max())


class Gradients:
    """Clicks through the gradients of the open page and compares them."""

    def __init__(self, page: Explained, network, image, explanation, seed: int = 0):
        self.page, self.recording, self.document = page, explanation.recording, explanation.document
        self.generator = np.random.default_rng(seed)
        self.operations = {op.name: op for op in self.recording.operations}
        labels = tf.constant([self.recording.label])
        recipe = replace(self.recording.recipe, weight_decay=0.0, auxiliary_weight=0.0)
        self.back = rawcnn.explain.backpropagate(network, tf.constant(image[None]), labels, recipe=recipe)

    def click_all(self, name: str, count: int = 2) -> None:
        """Select some units of each input and some elements of each parameter of an operation."""
        op = self.operations[name]
        to_inputs, to_parameters = gradients(op, self.recording)
        self.page.open(name)
        for source, exact in enumerate(to_inputs):
            self.page.press(f"#target-input-{source}")
            for _ in range(count):
                self.input(op, source, exact)
        for leaf, exact in to_parameters.items():
            if leaf in op.parameters:
                self.page.press(f"#target-parameter-{leaf}")
                for _ in range(count):
                    self.parameter(op, leaf, exact)
        assert self.page.faults == []

    def input(self, op, source: int, exact: np.ndarray) -> None:
        """Click a pixel of an input; the unit that contributes most is as likely as all others together."""
        name = op.input_names[source]
        unit = self.unit(op, source, exact)
        self.choose("#backward-channel", unit[2])
        if exact.shape[0] > 100:  # a pixel of the map is one of the screen
            self.fill("#backward-row", unit[0])
            self.fill("#backward-column", unit[1])
        elif exact.shape[:2] != (1, 1):
            self.page.click(*unit[:2], exact.shape[:2], "#backward-input")
        self.compare(exact[unit], exact, (op.name, name, unit))
        total = as_map(self.back.activations[name][0].numpy()) if name != "preprocessed" else self.preprocessed
        if self.page.page.locator(".sum-of-parts").count():
            said = self.page.value("#backward .sum-of-parts")
            assert close_to(self.page.value("#backward .sum-agrees"), said, total)
        else:
            said = self.page.value("#backward .result")
        assert close_to(said, total[unit], total), (op.name, name, unit)

    @property
    def preprocessed(self) -> np.ndarray:
        return self.recording.tensors["∂preprocessed"]  # before preprocessing is taken back

    def unit(self, op, source: int, exact: np.ndarray) -> tuple[int, int, int]:
        """Choose among the units that the page offers."""
        call = f"completeIndices(operations.get({op.name!r}), {source}, %d)"
        rows, columns = (self.page.page.evaluate(call % axis) for axis in (0, 1))
        channels = self.page.page.evaluate(f"completeChannels(operations.get({op.name!r}), {source})")
        offered = np.abs(exact[np.ix_(rows, columns, channels)])
        place = np.unravel_index(offered.argmax(), offered.shape)
        if self.generator.random() < 0.5:
            place = tuple(int(self.generator.integers(length)) for length in offered.shape)
        return rows[place[0]], columns[place[1]], channels[place[2]]

    def parameter(self, op, leaf: str, exact: np.ndarray) -> None:
        """Choose an element of a parameter, for a filter by a click on a tap; compare its gradient and its step."""
        index = self.index(op, leaf, exact)
        self.compare(exact[index], exact, (op.name, leaf, index))
        own = self.back.parameters[f"{op.name}/{leaf}"].numpy()
        assert close_to(self.page.value("#backward .result"), own[index], own), (op.name, leaf, index)
        assert self.steps()["w before"] == op.parameters[leaf].numpy()[index]

    def index(self, op, leaf: str, exact: np.ndarray) -> tuple[int, ...]:
        output = self.pick("#backward-output")
        if leaf == "filters":
            depth = self.pick("#backward-depth")
            taps = [int(self.generator.integers(length)) for length in exact.shape[:2]]
            self.page.press(f'[data-tap="{taps[0]},{taps[1]}"]')
            return (*taps, depth, output)
        if leaf == "weights":
            channel = self.pick("#backward-channel")
            height, width, channels = as_map(op.inputs[0][0].numpy()).shape
            row, column = (int(self.generator.integers(length)) for length in (height, width))
            if (height, width) != (1, 1):
                self.fill("#backward-row", row)
                self.fill("#backward-column", column)
            return (row * width + column) * channels + channel, output
        return (output,)

    def compare(self, right: float, exact: np.ndarray, what: tuple) -> None:
        """Compare the result, as the page has it and as it prints it, with float64."""
        tiny = 1e-12 * np.abs(exact).max()
        assert self.page.value("#backward .result") == pytest.approx(float(right), rel=RELATIVE, abs=tiny), what
        assert self.page.printed("#backward .result") == pytest.approx(float(right), rel=RELATIVE, abs=tiny), what
        said, own = self.page.value("#backward .result"), self.page.value("#backward .agrees")
        assert close_to(said, own, exact), what

    def choose(self, selector: str, index: int) -> None:
        self.page.page.select_option(selector, str(index))

    def fill(self, selector: str, index: int) -> None:
        self.page.page.fill(selector, str(index))
        self.page.page.press(selector, "Enter")

    def pick(self, selector: str) -> int:
        """Choose one of the options of a list."""
        options = self.page.page.eval_on_selector_all(f"{selector} option", "all => all.map(one => Number(one.value))")
        index = int(self.generator.choice(options))
        self.choose(selector, index)
        return index

    def steps(self) -> dict[str, float]:
        """Return the rows of the recipe's step."""
        rows = self.page.page.eval_on_selector_all(
            "#backward .step tbody tr",
            "all => all.map(row => [row.cells[0].textContent, Number(row.querySelector('output').dataset.value)])",
        )
        return dict(rows)


def embedded(explanation) -> list[str]:
    return [op["name"] for op in explanation.document["operations"] if op["selection"] and op["counts"]]
