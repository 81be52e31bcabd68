"""AlexNet: the parameters and neurons of the abstract, and the maps of figure 2."""

from __future__ import annotations

from math import prod

from rawcnn.papers.comparison import Comparison, Line, profiled, sum_of


def comparison() -> Comparison:
    """Compare Krizhevsky et al. 2012: the abstract, and the neurons that figure 2's caption lists."""
    model = profiled("alexnet")
    neurons = {row["name"]: prod(row["output_shape"]) for row in model.rows if row["kind"] in ("conv", "dense")}
    printed = ("253,440", "186,624", "64,896", "64,896", "43,264", "4,096", "4,096", "1,000")
    lines = [
        Line("whole network", "parameters", "60M", model.totals["parameters"]),
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
    one = profiled("alexnet", groups=1)
    saved = 1 - model.totals["macs"] / one.totals["macs"]
    notes = [
        "The paper says 224×224 images, but its 55×55 maps need 227, or 3 pixels of padding in all: (227 − 11)/4 + 1 = 55.",
        f"The two towers take {model.totals['macs']:,} MACs; the same widths without groups take {one.totals['macs']:,}. "
        f"The split over two GPUs saves {saved:.0%} of the arithmetic and {one.totals['parameters'] - model.totals['parameters']:,} "
        "parameters.",
        f"{sum_of(model, 'parameters', 'fc') / model.totals['parameters']:.0%} of the parameters are in the three dense layers, "
        f"{sum_of(model, 'macs', 'conv') / model.totals['macs']:.0%} of the MACs in the five convolutions.",
    ]
    return Comparison("alexnet", "AlexNet: eight layers, 60 million parameters", _ALEXNET, lines, notes)


_ALEXNET = "Krizhevsky, Sutskever, Hinton, NIPS 2012, abstract and figure 2"
_CONV1 = (
    "55·55·96 = 290,400; the printed number is 55·48·96, perhaps because a GPU's 48 filters were taken for a side of the map. "
    "Only with 290,400 do the layers add up to the abstract's 650,000"
)
