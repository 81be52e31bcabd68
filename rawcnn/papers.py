"""The papers' printed tables beside what the code counts, line by line, each difference explained.

A line agrees when the count, rounded as the paper rounds, is the printed number. One that does not agree says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod

from rawcnn.models.googlenet import INCEPTION
from rawcnn.profiler import Profile, profile

SMALL = 0.015  # of a number: what rounding the widths of a row may do
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Line:
    """One printed number: `printed` such as "60M", in units that `units` spells out, beside the count."""

    row: str
    quantity: str
    printed: str
    counted: float
    explanation: str = ""
    units: Mapping[str, float] = field(default_factory=lambda: UNITS)

    @property
    def unit(self) -> float:
        return self.units[self.printed.lstrip("0123456789.,")]

    @property
    def number(self) -> float:
        return float(self.printed.rstrip("KMG").replace(",", ""))

    @property
    def agrees(self) -> bool:
        """The count rounds to the printed number, at the printed number of decimals."""
        digits = self.printed.rstrip("KMG")
        decimals = len(digits.split(".")[1]) if "." in digits else 0
        return round(self.counted / self.unit, decimals) == self.number

    @property
    def kind_of_difference(self) -> str:
        """Cut instead of rounded, a little off, or more than that, in words."""
        if int(self.counted / self.unit) == self.number:
            return "cut off, not rounded"
        words = f"the printed number is {abs(self.difference):.1%} {'higher' if self.difference > 0 else 'lower'}"
        return words if abs(self.difference) < SMALL else f"{words}, which nothing in the table explains"

    @property
    def difference(self) -> float:
        """(printed − counted) / counted."""
        return self.number * self.unit / self.counted - 1


@dataclass(frozen=True)
class Comparison:
    """A paper's table: its lines, and what to know about the whole."""

    name: str
    title: str
    source: str
    lines: list[Line]
    notes: list[str]

    columns = ("row", "quantity", "printed", "counted", "agrees", "explanation")

    @property
    def rows(self) -> list[list[str]]:
        """The table as text, a list of cells a line."""
        return [
            [x.row, x.quantity, x.printed, f"{x.counted:,.0f}", "yes" if x.agrees else "no", x.explanation]
            for x in self.lines
        ]

    def to_dict(self) -> dict[str, object]:
        lines = [
            {
                "row": x.row,
                "quantity": x.quantity,
                "printed": x.printed,
                "counted": x.counted,
                "agrees": x.agrees,
                "difference": x.difference,
                "explanation": x.explanation,
            }
            for x in self.lines
        ]
        return {"paper": self.name, "title": self.title, "source": self.source, "lines": lines, "notes": self.notes}


@cache
def compare(paper: str) -> Comparison:
    """The comparison for "alexnet", "vgg", "googlenet" or "resnet"; ValueError for another name."""
    if paper not in PAPERS:
        raise ValueError(f"there is no table of a paper called {paper!r}; the papers are {', '.join(PAPERS)}")
    return PAPERS[paper]()


def _sum(model: Profile, key: str, *prefixes: str) -> int:
    """A column's sum over the rows whose names begin with one of `prefixes`."""
    return sum(row[key] for row in model.rows if row["name"].startswith(prefixes))


def _weights(model: Profile, *prefixes: str) -> int:
    """Weights of filters and dense layers, biases left out, of the operations that begin with `prefixes`."""
    return sum(
        p.count
        for operation in model.ledger
        if operation.name.startswith(prefixes)
        for p in operation.parameters
        if p.path.endswith(("/filters", "/weights"))
    )


def alexnet() -> Comparison:
    """Krizhevsky et al. 2012: the abstract, and the neurons that figure 2's caption lists."""
    model = profile("alexnet")
    neurons = {row["name"]: prod(row["output_shape"]) for row in model.rows if row["kind"] in ("conv", "dense")}
    printed = ("253,440", "186,624", "64,896", "64,896", "43,264", "4,096", "4,096", "1,000")
    lines = [
        Line("whole network", "parameters", "60M", model.totals["parameters"], "the abstract cuts off where we round"),
        Line(
            "whole network",
            "neurons",
            "650,000",
            sum(neurons.values()),
            "the eight maps below hold 659,272 neurons; the abstract rounds down to two digits",
        ),
        *(
            Line(name, "neurons", text, neurons[name], "" if name != "conv1" else _CONV1)
            for name, text in zip(neurons, printed, strict=True)
        ),
    ]
    one = profile("alexnet", groups=1)
    saved = 1 - model.totals["macs"] / one.totals["macs"]
    notes = [
        "The paper says 224×224 images; its 55×55 maps need 227 (or 3 pixels of padding in all): (227 − 11)/4 + 1 = 55.",
        f"Its two towers take {model.totals['macs']:,} MACs; without groups the same widths take {one.totals['macs']:,}: "
        f"splitting over two GPUs saves {saved:.0%} of the arithmetic and {one.totals['parameters'] - model.totals['parameters']:,} "
        "parameters.",
        f"{_sum(model, 'parameters', 'fc') / model.totals['parameters']:.0%} of the parameters are in the three dense layers, "
        f"{_sum(model, 'macs', 'conv') / model.totals['macs']:.0%} of the MACs in the five convolutions.",
    ]
    return Comparison("alexnet", "AlexNet: eight layers, 60 million parameters", _ALEXNET, lines, notes)


_ALEXNET = "Krizhevsky, Sutskever, Hinton, NIPS 2012, abstract and figure 2"
_CONV1 = (
    "55·55·96 = 290,400; the printed number is 55·48·96, as if a side of the map were the 48 filters of a GPU (our guess). "
    "Only with 290,400 do the layers add up to the abstract's 650,000"
)


def vgg() -> Comparison:
    """Simonyan & Zisserman 2015, table 2."""
    printed = {"vgg_a": "133M", "vgg_a_lrn": "133M", "vgg_b": "133M", "vgg_c": "134M", "vgg16": "138M", "vgg19": "144M"}
    names = dict(zip(printed, ("A", "A-LRN", "B", "C", "D (VGG16)", "E (VGG19)"), strict=True))
    models = {name: profile(name) for name in printed}
    lines = [Line(names[n], "parameters", text, models[n].totals["parameters"]) for n, text in printed.items()]
    vgg16, vgg19 = models["vgg16"], models["vgg19"]
    dense = _sum(vgg16, "parameters", "fc")
    first = _sum(vgg16, "parameters", "fc6")
    notes = [
        f"VGG16's 138 million are mostly not convolutions: the three dense layers hold {dense:,} "
        f"({dense / vgg16.totals['parameters']:.0%}), fc6 alone {first:,}.",
        f"VGG19 has three more 3×3 layers than VGG16: {vgg19.totals['macs'] / 1e9:.1f} G MACs against "
        f"{vgg16.totals['macs'] / 1e9:.1f} G, but only {vgg19.totals['parameters'] / vgg16.totals['parameters'] - 1:.1%} more "
        "parameters.",
        "Three 3×3 layers see 7×7 pixels with 27·C² weights; one 7×7 layer takes 49·C², 81 % more (section 2.3).",
    ]
    return Comparison(
        "vgg", "VGG: small kernels, many layers", "Simonyan & Zisserman, ICLR 2015, table 2", lines, notes
    )


# GoogLeNet's table 1: row → (params, ops) as printed; K is 1024 there, as 112K = 114,688 and 1000K = 1,024,000 show.
GOOGLENET_TABLE = {
    "conv1": ("2.7K", "34M"),
    "conv2": ("112K", "360M"),
    "inception_3a": ("159K", "128M"),
    "inception_3b": ("380K", "304M"),
    "inception_4a": ("364K", "73M"),
    "inception_4b": ("437K", "88M"),
    "inception_4c": ("463K", "100M"),
    "inception_4d": ("580K", "119M"),
    "inception_4e": ("840K", "170M"),
    "inception_5a": ("1072K", "54M"),
    "inception_5b": ("1388K", "71M"),
    "classifier": ("1000K", "1M"),
}


def separable_stem() -> tuple[int, int]:
    """(weights, MACs) of a 7×7/2 stem as a depthwise convolution to 3·8 channels and a 1×1 to 64, on 112×112 maps."""
    weights = 7 * 7 * 3 * 8 + 3 * 8 * 64
    return weights, weights * 112 * 112


def googlenet() -> Comparison:
    """Szegedy et al. 2015, table 1: parameters and operations, a row a module."""
    model = profile("googlenet")
    stem_weights, stem_macs = separable_stem()
    stem = (
        f"an ordinary 7×7 convolution to 64 channels; the printed numbers are those of a separable stem of depth multiplier 8: "
        f"49·24 + 24·64 = {stem_weights:,} weights, {stem_macs / 1e6:.2f}M MACs (our inference; figure 3 shows no such layer)"
    )
    lines, printed_kilo = [], 0.0
    for row, (parameters, operations) in GOOGLENET_TABLE.items():
        weights, macs = _weights(model, row), _sum(model, "macs", row)
        own = Line(row, "weights", parameters, weights, units={"K": 1024, "": 1})
        cost = Line(row, "MACs", operations, macs)
        printed_kilo += own.number
        for line, counted in (
            (own, f"the row's own widths make {weights:,} weights, {weights / 1024:.1f}K"),
            (cost, f"{weights:,} weights at {macs // weights:,} positions make {macs / 1e6:.1f}M"),
        ):
            explanation = stem if row == "conv1" else f"{counted}: {line.kind_of_difference}{_GUESS.get(row, '')}"
            lines.append(_explained(replace(line, explanation=explanation)))
    total, macs = model.totals["parameters"], model.totals["macs"]
    as_printed = macs - _sum(model, "macs", "conv1") + stem_macs
    lines.append(
        Line(
            "whole network",
            "parameters",
            "6.8M",
            total,
            f"the printed rows add up to {printed_kilo:,.1f}K; read as thousands that is 6.8M, as the 1024 that they are "
            f"{printed_kilo * 1024 / 1e6:.2f}M. The biases, which table 1 leaves out, are {total - _weights(model, ''):,} of ours",
        )
    )
    lines.append(
        Line(
            "whole network",
            "MACs",
            "1.5G",
            macs,
            f"with the separable stem the same network takes {as_printed / 1e9:.3f}G",
        )
    )
    naive = profile("googlenet_naive")
    notes = [
        "K is 1024 in this table: conv2's 112K are exactly 114,688 weights, the classifier's 1000K exactly 1,024,000.",
        f"The naive module everywhere would take {naive.totals['macs'] / 1e9:.2f} G MACs and "
        f"{naive.totals['parameters'] / 1e6:.1f} M parameters: the 1×1 reductions save "
        f"{naive.totals['macs'] / macs:.1f}× and {naive.totals['parameters'] / total:.1f}×.",
        f"The lecture prints 6.7M parameters; its {len(INCEPTION)} modules of depth 2 and the 4 layers around them are the 22 layers.",
    ]
    return Comparison("googlenet", "GoogLeNet: 22 layers, 6.8 million parameters", _GOOGLENET, lines, notes)


# 16 more channels read 832 and are read by 128 filters of 5×5: 1,042,432 + 16·832 + 25·16·128 weights at 49 positions.
_GUESS = {"inception_5a": "; with a 5×5 reduce of 48, as 5b has, it would be 1,081K and 54.2M (our guess)"}
_GOOGLENET = "Szegedy et al., CVPR 2015, table 1"
assert [f"inception_{name}" for name in INCEPTION] == [row for row in GOOGLENET_TABLE if "inception" in row]


def _explained(line: Line) -> Line:
    """The line without its explanation where it agrees."""
    return replace(line, explanation="") if line.agrees else line


def resnet() -> Comparison:
    """He et al. 2016: table 1's FLOPs and map sizes, table 6's CIFAR parameters."""
    flops = {"resnet18": "1.8G", "resnet34": "3.6G", "resnet50": "3.8G", "resnet101": "7.6G", "resnet152": "11.3G"}
    models = {name: profile(name) for name in flops}
    plain34 = profile("plain34")
    lines = []
    for name, printed in flops.items():
        explanation = {
            "resnet34": "with option B's projections; the table's 3.6 is the network without them (options A and identity): "
            f"{plain34.totals['macs'] / 1e9:.2f}G",
            "resnet50": f"{models['resnet50'].totals['macs'] / 1e9:.3f}G: cut to 3.8, not rounded; striding the 3×3 (v1.5) "
            "would take 4.09",
        }.get(name, "")
        lines.append(_explained(Line(name, "MACs", printed, models[name].totals["macs"], explanation)))
    for stage, printed in (("conv1", "112"), ("conv2_1", "56"), ("conv3_1", "28"), ("conv4_1", "14"), ("conv5_1", "7")):
        row = next(row for row in models["resnet50"].rows if row["name"] == stage)
        lines.append(Line(stage.replace("_1", "_x"), "side of the map", printed, row["output_shape"][1]))
    cifar = {20: "0.27M", 32: "0.46M", 44: "0.66M", 56: "0.85M", 110: "1.7M"}
    for depth, printed in cifar.items():
        counted = profile(f"cifar_resnet{depth}").totals["parameters"]
        lines.append(Line(f"CIFAR-10, {depth} layers", "parameters", printed, counted))
    fifty, classifier = models["resnet50"].totals["parameters"], _sum(models["resnet50"], "parameters", "classifier")
    notes = [
        "What table 1 calls FLOPs are multiply-adds (section 3.3 says so): as FLOPs each number doubles, and the elementwise "
        f"operations come on top: ResNet-50 takes {models['resnet50'].totals['flops_forward'] / 1e9:.2f} GFLOPs.",
        f"The lecture's 23M for ResNet-50 counts no classifier: {fifty:,} parameters − {classifier:,} = {fifty - classifier:,}.",
        f"VGG19 takes {profile('vgg19').totals['macs'] / models['resnet34'].totals['macs']:.1f} times the MACs of ResNet-34.",
    ]
    return Comparison("resnet", "ResNet: up to 152 layers", "He et al., CVPR 2016, tables 1 and 6", lines, notes)


PAPERS: dict[str, Callable[[], Comparison]] = {
    "alexnet": alexnet,
    "vgg": vgg,
    "googlenet": googlenet,
    "resnet": resnet,
}
