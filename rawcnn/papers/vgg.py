"""VGG: the parameters of all columns."""

from __future__ import annotations

from rawcnn.papers.comparison import Comparison, Line, profiled, sum_of


def comparison() -> Comparison:
    """Compare Simonyan & Zisserman 2015, table 2."""
    printed = {"vgg_a": "133M", "vgg_a_lrn": "133M", "vgg_b": "133M", "vgg_c": "134M", "vgg16": "138M", "vgg19": "144M"}
    names = dict(zip(printed, ("A", "A-LRN", "B", "C", "D (VGG16)", "E (VGG19)"), strict=True))
    models = {name: profiled(name) for name in printed}
    lines = [Line(names[n], "parameters", text, models[n].totals["parameters"]) for n, text in printed.items()]
    vgg16, vgg19 = models["vgg16"], models["vgg19"]
    dense = sum_of(vgg16, "parameters", "fc")
    first = sum_of(vgg16, "parameters", "fc6")
    notes = [
        f"Most of VGG16's 138 million parameters are in its three dense layers: {dense:,} "
        f"({dense / vgg16.totals['parameters']:.0%}), of which fc6 has {first:,}.",
        f"VGG19 has three more 3×3 layers than VGG16: {vgg19.totals['macs'] / 1e9:.1f} G MACs against "
        f"{vgg16.totals['macs'] / 1e9:.1f} G, but only {vgg19.totals['parameters'] / vgg16.totals['parameters'] - 1:.1%} more "
        "parameters.",
        "Three 3×3 layers see 7×7 pixels with 27·C² weights; one 7×7 layer has 49·C², 81 % more (section 2.3).",
    ]
    return Comparison(
        "vgg", "VGG: small kernels, many layers", "Simonyan & Zisserman, ICLR 2015, table 2", lines, notes
    )
