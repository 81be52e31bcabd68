"""PyTorch's names in the inception networks: torchvision's GoogLeNet and V3, timm's V4 and Inception-ResNet V2.

In PyTorch, a convolution and its batch norm are one module with the members `conv` and `bn`, and a branch is a list
of such modules.
"""

from __future__ import annotations

from rawcnn.weights.source import Rules

# Each table of branches maps rawcnn's name of a unit to PyTorch's


def _unit(module: str, bn: str | None) -> str:
    return f"{module}.{'bn' if bn else 'conv'}"


# GoogLeNet -------------------------------------------------------------------------------------------------------

STEM_V1 = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}
BRANCHES_V1 = {
    "1x1": "branch1",
    "3x3_reduce": "branch2.0",
    "3x3": "branch2.1",
    "5x5_reduce": "branch3.0",
    "5x5": "branch3.1",
    "pool_projection": "branch4.1",
}
HEADS_V1 = {"4a": "aux1", "4d": "aux2"}
GOOGLENET: Rules = (
    (r"(conv\d(?:_reduce)?)(/bn)?", lambda stem, bn: _unit(STEM_V1[stem], bn)),
    (r"inception_(\w+)/(\w+)(/bn)?", lambda m, unit, bn: _unit(f"inception{m}.{BRANCHES_V1[unit]}", bn)),
    (r"auxiliary_(\w+)/conv(/bn)?", lambda head, bn: _unit(f"{HEADS_V1[head]}.conv", bn)),
    (r"auxiliary_(\w+)/(fc\d)", lambda head, layer: f"{HEADS_V1[head]}.{layer}"),
    (r"classifier", lambda: "fc"),
)

# Inception V3 ----------------------------------------------------------------------------------------------------

STEM_V3 = {"conv1": "1a_3x3", "conv2": "2a_3x3", "conv3": "2b_3x3", "conv4": "3b_1x1", "conv5": "4a_3x3"}
BRANCHES_A = {  # the modules on 35×35 maps, and the module that halves these maps
    "1x1": "branch1x1",
    "5x5_reduce": "branch5x5_1",
    "5x5": "branch5x5_2",
    "3x3": "branch3x3",
    "double_3x3_reduce": "branch3x3dbl_1",
    "double_3x3_1": "branch3x3dbl_2",
    "double_3x3_2": "branch3x3dbl_3",
    "pool_projection": "branch_pool",
}
BRANCHES_B = {  # on 17×17 maps
    "1x1": "branch1x1",
    "7x7_reduce": "branch7x7_1",
    "1x7": "branch7x7_2",
    "7x1": "branch7x7_3",
    "double_7x7_reduce": "branch7x7dbl_1",
    "double_7x1_1": "branch7x7dbl_2",
    "double_1x7_1": "branch7x7dbl_3",
    "double_7x1_2": "branch7x7dbl_4",
    "double_1x7_2": "branch7x7dbl_5",
    "pool_projection": "branch_pool",
}
REDUCTION_B = {  # from 17×17 to 8×8
    "3x3_reduce": "branch3x3_1",
    "3x3": "branch3x3_2",
    "7x7_reduce": "branch7x7x3_1",
    "1x7": "branch7x7x3_2",
    "7x1": "branch7x7x3_3",
    "7x7_3x3": "branch7x7x3_4",
}
BRANCHES_C = {  # on 8×8 maps
    "1x1": "branch1x1",
    "3x3_reduce": "branch3x3_1",
    "1x3": "branch3x3_2a",
    "3x1": "branch3x3_2b",
    "double_3x3_reduce": "branch3x3dbl_1",
    "double_3x3": "branch3x3dbl_2",
    "double_1x3": "branch3x3dbl_3a",
    "double_3x1": "branch3x3dbl_3b",
    "pool_projection": "branch_pool",
}
MODULES_V3 = {
    **dict.fromkeys(("5b", "5c", "5d", "6a"), BRANCHES_A),
    **dict.fromkeys(("6b", "6c", "6d", "6e"), BRANCHES_B),
    "7a": REDUCTION_B,
    **dict.fromkeys(("7b", "7c"), BRANCHES_C),
}
INCEPTION_V3: Rules = (
    (r"(conv\d)(/bn)?", lambda stem, bn: _unit(f"Conv2d_{STEM_V3[stem]}", bn)),
    (r"mixed_(\w\w)/(\w+)(/bn)?", lambda m, unit, bn: _unit(f"Mixed_{m}.{MODULES_V3[m][unit]}", bn)),
    (r"auxiliary/conv(\d)(/bn)?", lambda n, bn: _unit(f"AuxLogits.conv{int(n) - 1}", bn)),
    (r"auxiliary/fc", lambda: "AuxLogits.fc"),
    (r"classifier", lambda: "fc"),
)

# Inception V4 is one list of modules; Inception-ResNet V2 has lists of blocks between its modules ---------------------

SEPARABLE = {  # a 7×7 convolution as 1×1, 1×7 and 7×1; three kinds of modules have it
    "7x7_reduce": "branch1.0",
    "1x7": "branch1.1",
    "7x1": "branch1.2",
    "7x7_3x3": "branch1.3",
}
DOUBLE = {"double_3x3_reduce": "branch2.0", "double_3x3_1": "branch2.1", "double_3x3_2": "branch2.2"}
DOUBLE_FIRST = {"double_3x3_reduce": "branch1.0", "double_3x3_1": "branch1.1", "double_3x3_2": "branch1.2"}
POOL = {"pool_projection": "branch3.1"}
BRANCHES_V4 = {
    "stem1": {"3x3": "conv"},
    "stem2": {"3x3_reduce": "branch0.0", "3x3": "branch0.1", **SEPARABLE},
    "stem3": {"3x3": "conv"},
    "inception_a": {"1x1": "branch0", "3x3_reduce": "branch1.0", "3x3": "branch1.1", **DOUBLE, **POOL},
    "reduction_a": {"3x3": "branch0", **DOUBLE_FIRST},
    "inception_b": {
        "1x1": "branch0",
        **SEPARABLE,
        "double_7x7_reduce": "branch2.0",
        "double_7x1_1": "branch2.1",
        "double_1x7_1": "branch2.2",
        "double_7x1_2": "branch2.3",
        "double_1x7_2": "branch2.4",
        **POOL,
    },
    "reduction_b": {"3x3_reduce": "branch0.0", "3x3": "branch0.1", **SEPARABLE},
    "inception_c": {
        "1x1": "branch0",
        "3x3_reduce": "branch1_0",
        "1x3": "branch1_1a",
        "3x1": "branch1_1b",
        "double_3x3_reduce": "branch2_0",
        "double_3x1_1": "branch2_1",
        "double_1x3_1": "branch2_2",
        "double_1x3_2": "branch2_3a",
        "double_3x1_2": "branch2_3b",
        **POOL,
    },
}
FIRST_V4 = {"stem1": 3, "stem2": 4, "stem3": 5, "inception_a": 6, "reduction_a": 10}  # index of the kind's first module
FIRST_V4 |= {"inception_b": 11, "reduction_b": 18, "inception_c": 19}
INCEPTION_V4: Rules = (
    (r"conv(\d)(/bn)?", lambda n, bn: _unit(f"features.{int(n) - 1}", bn)),
    (
        r"(stem\d|reduction_\w|inception_[abc])(\d?)/(\w+)(/bn)?",
        lambda kind, n, unit, bn: _unit(f"features.{FIRST_V4[kind] + int(n or 1) - 1}.{BRANCHES_V4[kind][unit]}", bn),
    ),
    (r"classifier", lambda: "last_linear"),
)

STEM_RESNET = {"conv1": "1a", "conv2": "2a", "conv3": "2b", "conv4": "3b", "conv5": "4a", "conv_7b": "7b"}
LISTS = {"block35": "repeat", "block17": "repeat_1", "block8": "repeat_2"}
BRANCHES_RESNET = {
    "mixed_5b": {"1x1": "branch0", "5x5_reduce": "branch1.0", "5x5": "branch1.1", **DOUBLE, **POOL},
    "block35": {"1x1": "branch0", "3x3_reduce": "branch1.0", "3x3": "branch1.1", **DOUBLE},
    "mixed_6a": {"3x3": "branch0", **DOUBLE_FIRST},
    "block17": {"1x1": "branch0", **SEPARABLE},
    "mixed_7a": {
        "3x3a_reduce": "branch0.0",
        "3x3a": "branch0.1",
        "3x3b_reduce": "branch1.0",
        "3x3b": "branch1.1",
        **DOUBLE,
    },
    "block8": {"1x1": "branch0", "3x3_reduce": "branch1.0", "1x3": "branch1.1", "3x1": "branch1.2"},
}


def _listed(block: str, number: str) -> str:
    """Return a block's name: block35_1 is element 0 of its list; the last block8, without ReLU, is in no list."""
    return "block8" if (block, number) == ("block8", "10") else f"{LISTS[block]}.{int(number) - 1}"


INCEPTION_RESNET_V2: Rules = (
    (r"(conv\d|conv_7b)(/bn)?", lambda stem, bn: _unit(f"conv2d_{STEM_RESNET[stem]}", bn)),
    (r"(mixed_\w\w)/(\w+)(/bn)?", lambda m, unit, bn: _unit(f"{m}.{BRANCHES_RESNET[m][unit]}", bn)),
    (r"(block\d+)_(\d+)/expand", lambda block, n: f"{_listed(block, n)}.conv2d"),
    (
        r"(block\d+)_(\d+)/(\w+)(/bn)?",
        lambda block, n, unit, bn: _unit(f"{_listed(block, n)}.{BRANCHES_RESNET[block][unit]}", bn),
    ),
    (r"classifier", lambda: "classif"),
)

INCEPTIONS: dict[str, Rules] = {
    "googlenet": GOOGLENET,
    "inception_v3": INCEPTION_V3,
    "inception_v4": INCEPTION_V4,
    "inception_resnet_v2": INCEPTION_RESNET_V2,
}
