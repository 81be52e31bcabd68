"""ResNet: FLOPs and map sizes on ImageNet, parameters on CIFAR-10."""

from __future__ import annotations

from rawcnn.papers.comparison import Comparison, Line, profiled, shape_of, sum_of


def comparison() -> Comparison:
    """Compare He et al. 2016: table 1's FLOPs and map sizes, table 6's CIFAR-10 parameters."""
    flops = {"resnet18": "1.8G", "resnet34": "3.6G", "resnet50": "3.8G", "resnet101": "7.6G", "resnet152": "11.3G"}
    models = {name: profiled(name) for name in flops}
    plain34 = profiled("plain34")
    lines = []
    for name, printed in flops.items():
        explanation = {
            "resnet34": "counted with option B's projections; the table's 3.6 is the network without them (option A): "
            f"{plain34.totals['macs'] / 1e9:.2f}G",
            "resnet50": f"{models['resnet50'].totals['macs'] / 1e9:.3f}G; striding the 3×3 (v1.5) would take 4.09",
        }.get(name, "")
        lines.append(Line(name, "MACs", printed, models[name].totals["macs"], explanation))
    for stage, printed in (("conv1", "112"), ("conv2_1", "56"), ("conv3_1", "28"), ("conv4_1", "14"), ("conv5_1", "7")):
        side = shape_of(models["resnet50"], stage)[1]
        lines.append(Line(stage.replace("_1", "_x"), "side of the map", printed, side))
    cifar = {20: "0.27M", 32: "0.46M", 44: "0.66M", 56: "0.85M", 110: "1.7M"}
    for depth, printed in cifar.items():
        counted = profiled(f"cifar_resnet{depth}").totals["parameters"]
        lines.append(Line(f"CIFAR-10, {depth} layers", "parameters", printed, counted))
    fifty, classifier = models["resnet50"].totals["parameters"], sum_of(models["resnet50"], "parameters", "classifier")
    notes = [
        "Table 1's FLOPs are multiply-adds, as section 3.3 says. In FLOPs each number doubles, and elementwise operations "
        f"are added: ResNet-50 takes {models['resnet50'].totals['flops_forward'] / 1e9:.2f} GFLOPs.",
        f"The lecture's 23M for ResNet-50 excludes the classifier: {fifty:,} parameters − {classifier:,} = {fifty - classifier:,}.",
        f"VGG19 takes {profiled('vgg19').totals['macs'] / models['resnet34'].totals['macs']:.1f} times the MACs of ResNet-34.",
    ]
    return Comparison("resnet", "ResNet: up to 152 layers", "He et al., CVPR 2016, tables 1 and 6", lines, notes)
