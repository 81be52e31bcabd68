"""PyTorch's contestants: the twin in inference mode and its training step, eager and by `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from benchmarks.races.setup import Setup
from benchmarks.twins.torch import to_rawcnn_axes


def inference(setup: Setup, mode: str) -> Callable[[], np.ndarray]:
    """Return a call that computes the logits [B,classes]; `mode` is "eager" or "compile"."""
    twin, images = setup.torch, torch.from_numpy(setup.images.numpy())
    run = torch.compile(twin) if mode == "compile" else twin

    def call() -> np.ndarray:
        twin.eval()
        with torch.inference_mode(), _precision(setup):
            return run(images).numpy()

    return call


def training(
    setup: Setup, mode: str, rate: float, momentum: float
) -> tuple[Callable[[], np.ndarray], Callable[[], Mapping[str, np.ndarray]]]:
    """Return (a call that takes one step of fused SGD and returns the loss, a call that returns the gradients).

    The gradients are those of the first step: they are read from the momentum buffers.
    """
    twin, images = setup.torch, torch.from_numpy(setup.images.numpy())
    labels = torch.from_numpy(setup.labels.numpy()).long()
    trained = {path: tensor for path, tensor in twin.tensors().items() if path in twin.model.trained}
    optimizer = torch.optim.SGD(list(trained.values()), lr=rate, momentum=momentum, fused=True)

    def loss_of(images, labels):
        with _precision(setup):
            logits = twin(images)
        return torch.nn.functional.cross_entropy(logits, labels)

    forward = torch.compile(loss_of) if mode == "compile" else loss_of

    def call() -> np.ndarray:
        twin.train()
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()

    def gradients() -> Mapping[str, np.ndarray]:
        return {
            path: to_rawcnn_axes(path, optimizer.state[t]["momentum_buffer"].numpy()) for path, t in trained.items()
        }

    return call, gradients


def _precision(setup: Setup) -> AbstractContextManager:
    """Autocast for a bfloat16 network; no change for float32."""
    if setup.network.precision == "bfloat16":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()
