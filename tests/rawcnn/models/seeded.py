"""Values of published networks that every library can draw again: by tensor name, from NumPy's PCG64.

`python -m tests.rawcnn.models.seeded` writes `seeded_logits.json`, the logits of torchvision's and timm's networks with
these values in float64. It needs PyTorch, torchvision and timm; the test that reads the file needs none of them.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "seeded_logits.json"
SHOWN = 20  # logits of each image that the file keeps
IMAGES = 2
# The network here → the library, its name there, and the images' size in pixels. Odd sizes show how a pool rounds.
NETWORKS = {
    "alexnet_one_tower": ("torchvision", "alexnet", 224),
    "vgg_a": ("torchvision", "vgg11", 224),
    "vgg_b": ("torchvision", "vgg13", 224),
    "vgg16": ("torchvision", "vgg16", 224),
    "vgg19": ("torchvision", "vgg19", 224),
    "googlenet": ("torchvision", "googlenet", 97),
    "resnet18": ("torchvision", "resnet18", 97),
    "resnet34": ("torchvision", "resnet34", 97),
    "resnet50": ("torchvision", "resnet50", 97),
    "resnet101": ("torchvision", "resnet101", 97),
    "resnet152": ("torchvision", "resnet152", 97),
    "resnext50": ("torchvision", "resnext50_32x4d", 97),
    "resnext101": ("timm", "resnext101_32x4d", 97),
    "inception_v3": ("torchvision", "inception_v3", 107),
    "inception_v4": ("timm", "inception_v4", 107),
    "inception_resnet_v2": ("timm", "inception_resnet_v2", 107),
    "se_resnet50": ("timm", "legacy_seresnet50", 97),
    "se_resnet101": ("timm", "legacy_seresnet101", 97),
    "se_resnet152": ("timm", "legacy_seresnet152", 97),
    "se_resnext50": ("timm", "legacy_seresnext50_32x4d", 97),
    "se_resnext101": ("timm", "legacy_seresnext101_32x4d", 97),
    "senet154": ("timm", "legacy_senet154", 97),
}


def seeded_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Draw the values of all tensors of a state dict, on a scale that keeps activations near 1.

    Args:
        shapes: The shape of each tensor by its name. A norm's names end in "weight", "bias", "running_mean",
            "running_var" and "num_batches_tracked".

    Returns:
        The values by name, float32; each depends on its name and shape alone.
    """
    norms = {name.removesuffix(".running_mean") for name in shapes if name.endswith(".running_mean")}
    return {name: _seeded(name, shape, norms) for name, shape in shapes.items()}


def _seeded(name: str, shape: tuple[int, ...], norms: set[str]) -> np.ndarray:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    layer, _, leaf = name.rpartition(".")
    if leaf == "num_batches_tracked":
        return np.array(1)
    if leaf == "running_var" or (leaf == "weight" and layer in norms):
        last_of_branch = layer.endswith(("bn2", "bn3"))  # residual branches add up
        scale = 0.2 if last_of_branch and leaf == "weight" else 1.0
        return (scale * generator.uniform(0.5, 1.5, shape)).astype(np.float32)
    if len(shape) == 1:  # biases, offsets and means
        return generator.normal(0, 0.1, shape).astype(np.float32)
    deviation = np.sqrt(2 / np.prod(shape[1:]))
    return (deviation * generator.standard_normal(shape, np.float32)).astype(np.float32)


def seeded_images(size: int) -> np.ndarray:
    """Return two images [2,size,size,3] in [0,1], float32."""
    return np.random.default_rng(size).random((IMAGES, size, size, 3), np.float32)


def main() -> None:
    """Write the logits of the libraries' networks."""
    import timm
    import torch
    import torchvision

    libraries = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}
    versions = {"torchvision": torchvision.__version__, "timm": timm.__version__, "torch": torch.__version__}
    networks = {}
    for ours, (library, theirs, size) in NETWORKS.items():
        heads = {"init_weights": False, "aux_logits": True} if ours in ("googlenet", "inception_v3") else {}
        settings = heads if library == "torchvision" else {"pretrained": False}
        model = libraries[library](theirs, **settings).eval().double()
        # Without the auxiliary heads, which have no part in the logits
        state = {name: value for name, value in model.state_dict().items() if not name.lower().startswith("aux")}
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        values = seeded_state(shapes)
        model.load_state_dict({name: torch.from_numpy(v) for name, v in values.items()}, strict=False)
        with torch.no_grad():
            # Pixels in [-1,1]; the networks normalize nothing themselves
            logits = model(torch.from_numpy(2 * seeded_images(size).transpose(0, 3, 1, 2).astype(np.float64) - 1))
        print(f"{ours}: logits up to {float(logits.abs().max()):.3g}")
        networks[ours] = {
            "library": library,
            "name": theirs,
            "size": size,
            "tensors": {name: list(shape) for name, shape in shapes.items()},
            "logits": [[float(f"{v:.9g}") for v in row[:SHOWN]] for row in logits.tolist()],
        }
    FILE.write_text(json.dumps({"versions": versions, "networks": networks}) + "\n")


if __name__ == "__main__":
    main()
