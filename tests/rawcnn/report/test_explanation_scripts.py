"""The scripts of an explanation's page: what each says that it uses, and the geometry that Python has as well."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kernels.geometry import output_size
from rawcnn.explain.paths import leading_term
from rawcnn.explain.units import WINDOWS, plain_settings, taps_inside
from rawcnn.nn.backpropagation import Applied
from rawcnn.nn.weight_decay import decays
from rawcnn.report import explanation_page
from rawcnn.report.explanation_page import SCRIPTS
from tests.rawcnn.report.browser import browser

FOLDER = Path(explanation_page.__file__).parent / "explanation"
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS}
DECLARED = re.compile(r"^(?:async )?(?:const|let|function|class) (\w+)", re.MULTILINE)
METHOD = re.compile(r"^  \w+\(.*\) \{$", re.MULTILINE)
IDENTIFIER = re.compile(r"(?<![\w$.])(?:\.\.\.)?([A-Za-z_]\w*)(?!\w*:)")
USED = re.compile(r"^//   (\w+\.\w+)(?: \(later\))?: (.+(?:\n//     .+)*)$", re.MULTILINE)


def declared(name: str) -> set[str]:
    """Return the names that a script declares for all scripts."""
    return set(DECLARED.findall(TEXTS[name]))


def code(text: str) -> str:
    """Return a script without its comments, the words of its strings, and the names of methods."""
    text = re.sub(r"(^|\s)//.*$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', text)
    text = METHOD.sub(lambda match: match[0][match[0].index("(") :], text)
    depths, kept = [], []  # of braces, in each template text that is open; a template may hold another one
    in_text = False
    for one in re.split(r"(`|\$\{|[{}])", text):
        if one == "`":
            in_text = not in_text
            depths.append(0) if in_text else depths.pop()
        elif one == "${" and in_text:
            in_text = False
            depths[-1] = 1
        elif one in "{}" and one and not in_text and depths:
            depths[-1] += 1 if one == "{" else -1
            in_text = depths[-1] == 0
        kept.append(" " if in_text else one)
    return "".join(kept)


def uses(name: str) -> dict[str, set[str]]:
    """Return other scripts → the names of theirs that a script uses."""
    found = set(IDENTIFIER.findall(code(TEXTS[name])))
    return {other: found & declared(other) for other in SCRIPTS if other != name and found & declared(other)}


def stated(name: str) -> dict[str, set[str]]:
    """Return what the first comment of a script says that it uses of each file."""
    head = TEXTS[name].split("\n\n")[0]
    return {file: set(re.findall(r"[#\w$-]+", names.replace("//", ""))) for file, names in USED.findall(head)}


def test_scripts_say_what_they_use():
    """In the order in which they are loaded; a name is declared once and stands for nothing else."""
    assert set(SCRIPTS) == {path.name for path in FOLDER.glob("*.js")}
    names = [one for name in SCRIPTS for one in DECLARED.findall(TEXTS[name])]
    assert len(set(names)) == len(names)
    for number, name in enumerate(SCRIPTS):
        files = [file for file in stated(name) if file != "page.html"]
        assert files == sorted(files, key=SCRIPTS.index), name
        assert {file: stated(name)[file] for file in files} == uses(name), name
        head = TEXTS[name].split("\n\n")[0]
        assert ("Loaded first." if number == 0 else f"Loaded after {SCRIPTS[number - 1]}.") in head, name
        for file in files:
            assert (f"{file} (later)" in head) == (SCRIPTS.index(file) > number), (name, file)


def test_scripts_name_the_elements_that_they_use():
    html = (FOLDER / "page.html").read_text(encoding="utf-8")
    fixed = set(re.findall(r'\bid="([\w-]+)"', html))
    for name, text in TEXTS.items():
        elements = {one for one in re.findall(r'(?:byId|getElementById)\("([\w-]+)"\)', text) if one in fixed}
        assert {one[1:] for one in stated(name).get("page.html", set())} == elements, name


# Geometry and paths, which Python and JavaScript both have ------------------------------------------------------------

DOCUMENT = {"tensors": {}, "operations": [], "recipe": {"decay_all": False}}
HTML = """<script type="application/json" id="document">{}</script><script type="text/plain" id="arrays"></script>
<script>{}</script>"""

# The taps of each unit's window, the outputs that read each pixel, and the unit of the leading term
FOUND = """({kind, inputs, shapes, arrays, settings, units, pixels}) => {
  for (const [name, {shape, values}] of Object.entries(arrays)) {
    const axes = shape.map(length => ({start: 0, stop: length}));
    tensors.set(name, new Tensor(name, {shape, pieces: [{axes, offset: 0}]}, Float32Array.from(values)));
  }
  for (const [name, shape] of Object.entries(shapes)) operations.set(name, {name, kind, inputs, shape, settings});
  const operation = operations.get("y");
  const places = found => found.map(({i, j, row, column}) => [i, j, row, column]);
  return {
    taps: settings.size ? units.map(unit => places(tapsInside(operation, unit))) : [],
    readers: settings.size ? pixels.map(pixel => places(readersOf(operation, pixel))) : [],
    leading: units.map(unit => leadingTerm(forward[kind](operation, unit))?.from ?? null),
  };
}"""


@pytest.fixture(scope="module")
def arithmetic():
    """A page without a network: the scripts before those that draw."""
    with browser() as chromium:
        page = chromium.new_page()
        scripts = "\n".join(TEXTS[name] for name in SCRIPTS[: SCRIPTS.index("cancellation.js")])
        page.set_content(HTML.format(json.dumps(DOCUMENT), scripts))
        yield page


class Geometry:
    """A random operation y of an input x, with small whole numbers, of which some are equal."""

    def __init__(self, kind: str, seed: int):
        self.generator = np.random.default_rng(seed)
        self.kind = kind
        self.height, self.width = self.integers(1, 9), self.integers(1, 9)
        self.channels = self.integers(1, 4)
        self.arrays = {"x": self.array(self.height, self.width, self.channels)}
        self.sources, self.parameters, self.settings = ("x",), {}, {}
        self.shape = getattr(self, kind)()

    def integers(self, low: int, high: int) -> int:
        return int(self.generator.integers(low, high + 1))

    def array(self, *shape: int) -> np.ndarray:
        return self.generator.integers(-2, 3, shape).astype(np.float32)

    def window(self, padding) -> tuple[int, int]:
        """Choose a window with this padding, and return the size of the output."""
        size, stride = (self.integers(1, 7), self.integers(1, 7)), (self.integers(1, 3), self.integers(1, 3))
        dilation = (self.integers(1, 3), self.integers(1, 2)) if self.kind == "conv" else 1
        self.settings |= {"stride": stride, "padding": padding(size), "dilation": dilation}
        if self.kind != "conv":
            self.settings["size"] = size
        while True:  # a larger map, where the window does not fit
            try:
                map_size = (self.height, self.width)
                return size, output_size(self.settings["padding"], map_size, size, stride, dilation)
            except ValueError:
                self.height, self.width = self.height + 1, self.width + 1
                self.arrays["x"] = self.array(self.height, self.width, self.channels)

    def conv(self) -> tuple[int, int, int]:
        depth, groups = self.integers(1, 3), self.integers(1, 3)
        self.channels = depth * groups
        self.arrays["x"] = self.array(self.height, self.width, self.channels)
        pads = ((self.integers(0, 4), self.integers(0, 4)), (self.integers(0, 4), self.integers(0, 4)))
        any_padding = ("SAME", "VALID", pads, pads)[self.integers(0, 3)]
        size, out = self.window(lambda _: any_padding)
        self.settings["groups"], outputs = groups, groups * self.integers(1, 2)
        self.parameters["filters"] = self.array(*size, depth, outputs)
        return (*out, outputs)

    def max_pool(self) -> tuple[int, int, int]:
        def padding(size):  # smaller than the window, so that each window has a pixel
            pads = tuple((self.integers(0, n - 1), self.integers(0, n - 1)) for n in size)
            return ("SAME", "VALID", pads, pads)[self.integers(0, 3)]

        return (*self.window(padding)[1], self.channels)

    def average_pool(self) -> tuple[int, int, int]:
        self.settings["count_padding"] = bool(self.integers(0, 1))
        return self.max_pool()

    def global_average_pool(self) -> tuple[int, int, int]:
        return 1, 1, self.channels

    def dense(self) -> tuple[int, int, int]:
        self.parameters["weights"] = self.array(self.height * self.width * self.channels, 3)
        return 1, 1, 3

    def pad(self) -> tuple[int, int, int]:
        rows, columns = ((self.integers(1 - n, 2), self.integers(0, 2)) for n in (self.height, self.width))
        self.settings["margins"] = (rows, columns)
        return self.height + sum(rows), self.width + sum(columns), self.channels

    def zero_padded_shortcut(self) -> tuple[int, int, int]:
        channels, stride = self.channels + self.integers(0, 5), self.integers(1, 3)
        self.settings |= {"stride": stride, "channels": channels, "zeros": ("both", "end")[self.integers(0, 1)]}
        return -(-self.height // stride), -(-self.width // stride), channels

    def residual_sum(self) -> tuple[int, int, int]:
        self.sources = ("x", "r")
        self.arrays["r"] = self.array(*self.arrays["x"].shape)
        self.settings |= ({}, {"scale": 0.5}, {"scale": 1.5})[self.integers(0, 2)]
        return self.arrays["x"].shape

    def concatenate(self) -> tuple[int, int, int]:
        self.sources = ("x", "r")
        self.arrays["r"] = self.array(self.height, self.width, self.integers(1, 3))
        return self.height, self.width, self.channels + self.arrays["r"].shape[2]

    @property
    def applied(self) -> Applied:
        """Return the operation as a trace records it."""
        inputs = tuple(self.arrays[source][None] for source in self.sources)
        output = np.zeros((1, *self.shape), np.float32)
        return Applied("y", self.kind, self.sources, inputs, self.parameters, output, (), self.settings)

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return self.arrays | {f"y/{leaf}": value for leaf, value in self.parameters.items()}

    @property
    def units(self) -> list[tuple[int, int, int]]:
        """Return a unit of a random channel at each position."""
        return [(*at, self.integers(0, self.shape[2] - 1)) for at in np.ndindex(*self.shape[:2])]


def as_unit(unit) -> dict[str, int]:
    return dict(zip(("row", "column", "channel"), map(int, unit), strict=False))


def assert_same(page, geometry: Geometry) -> None:
    """Compare what both languages find for each unit of an operation."""
    op, tensors, units = geometry.applied, geometry.tensors, geometry.units
    pixels = list(np.ndindex(geometry.height, geometry.width))
    case = {
        "kind": op.kind,
        "inputs": op.input_names,
        "shapes": {name: x.shape for name, x in geometry.arrays.items()} | {"y": geometry.shape},
        "arrays": {name: {"shape": x.shape, "values": x.ravel().tolist()} for name, x in tensors.items()},
        "settings": plain_settings(op),
        "units": [as_unit(unit) for unit in units],
        "pixels": [as_unit(pixel) for pixel in pixels],
    }
    found = page.evaluate(FOUND, case)
    if op.kind in WINDOWS:
        read = {unit[:2]: [(*ij, *at) for ij, at in taps_of(op, unit)] for unit in units}
        assert found["taps"] == [[list(tap) for tap in read[unit[:2]]] for unit in units]
        readers = {pixel: [] for pixel in pixels}
        for position, taps in read.items():
            for i, j, *pixel in taps:
                readers[tuple(pixel)].append([i, j, *position])
        assert found["readers"] == list(readers.values())
    recording = SimpleNamespace(tensors=tensors)
    for unit, leading in zip(units, found["leading"], strict=True):
        term = leading_term(op, recording, unit)
        expected = term and {"operation": term[0], "unit": as_unit(term[1])}
        assert leading == expected, (op.settings, unit)


def taps_of(op: Applied, unit) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the taps of a unit's window inside the map, as ((i, j), (row, column))."""
    (i, rows), (j, columns) = taps_inside(op, unit)
    return [((i[a], j[b]), (rows[a], columns[b])) for a in range(len(i)) for b in range(len(j))]


KINDS = (
    "conv", "max_pool", "average_pool", "global_average_pool", "dense", "pad", "zero_padded_shortcut", "residual_sum",
    "concatenate",
)  # fmt: skip


def test_geometry_and_paths(arithmetic):
    """Taps, readers, groups and the largest term are those of Python, of equal terms the first."""
    for kind in KINDS:
        assert_same(arithmetic, Geometry(kind, 0))


@pytest.mark.deeper
@pytest.mark.parametrize("kind", KINDS)
def test_geometry_and_paths_of_many_operations(arithmetic, kind):
    for seed in range(1, 81):
        assert_same(arithmetic, Geometry(kind, seed))


def test_the_same_parameters_decay(arithmetic):
    for path in ("conv1/filters", "fc/weights", "conv1/bias", "bn/scale", "bn/offset", "filters/bias"):
        assert arithmetic.evaluate("path => hasDecay(path)", path) == decays(path)
