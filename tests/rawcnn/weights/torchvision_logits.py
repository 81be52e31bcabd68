"""Run a network of torchvision or timm with random weights, in a process without TensorFlow; write weights and logits.

TensorFlow and the compiler that PyTorch loads for torchvision both bring LLVM; a process that loads both crashes.

    python torchvision_logits.py LIBRARY MODEL INPUTS.npz WEIGHTS.pth LOGITS.npz
"""

from __future__ import annotations

import importlib
import sys

import numpy as np

HEADS = {"aux_logits": True, "init_weights": False}  # of torchvision's inception networks


def main(library: str, name: str, inputs: str, weights: str, logits: str) -> None:
    """Write the state dict of a network, and its logits of each array [B,3,H,W] in `inputs`."""
    import torch

    torch.manual_seed(0)
    if library == "timm":
        model = importlib.import_module("timm").create_model(name).eval()
    else:
        heads = HEADS if name in ("googlenet", "inception_v3") else {}
        model = getattr(importlib.import_module("torchvision.models"), name)(**heads).eval()
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(torch.rand(value.shape) + 0.5)
        elif value.ndim == 1:
            value.add_(torch.randn(value.shape) / 10)
    torch.save({"state_dict": model.state_dict()}, weights)
    with torch.no_grad(), np.load(inputs) as arrays:
        np.savez(logits, **{size: model(torch.from_numpy(arrays[size])).numpy() for size in arrays})


if __name__ == "__main__":
    main(*sys.argv[1:])
