"""PyTorch in the race: the twin in inference mode, and its training step, eager and by `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from benchmarks.races.setup import Setup
from benchmarks.twins.torch import turned_back


def inference(setup: Setup, how: str) -> Callable[[], np.ndarray]:
    """Images → logits."""
    twin, images = setup.torch, torch.from_numpy(setup.images.numpy())
    run = torch.compile(twin) if how == "compile" else twin

    def call() -> np.ndarray:
        twin.eval()
        with torch.inference_mode(), _precision(setup):
            return run(images).numpy()

    return call


def training(
    setup: Setup, how: str, rate: float, momentum: float
) -> tuple[Callable[[], np.ndarray], Callable[[], Mapping[str, np.ndarray]]]:
    """(one step of fused SGD → the loss, the gradients of the first step)."""
    twin, images = setup.torch, torch.from_numpy(setup.images.numpy())
    labels = torch.from_numpy(setup.labels.numpy()).long()
    trained = {path: tensor for path, tensor in twin.tensors().items() if path in twin.model.trained}
    optimizer = torch.optim.SGD(list(trained.values()), lr=rate, momentum=momentum, fused=True)

    def loss_of(images, labels):
        with _precision(setup):
            logits = twin(images)
        return torch.nn.functional.cross_entropy(logits, labels)

    forward = torch.compile(loss_of) if how == "compile" else loss_of

    def call() -> np.ndarray:
        twin.train()
        optimizer.zero_grad(set_to_none=True)
        loss = forward(images, labels)
        loss.backward()
        optimizer.step()
        return loss.detach().numpy()

    def gradients() -> Mapping[str, np.ndarray]:
        return {path: turned_back(path, optimizer.state[t]["momentum_buffer"].numpy()) for path, t in trained.items()}

    return call, gradients


def _precision(setup: Setup) -> AbstractContextManager:
    """Autocast for a network in bfloat16."""
    if setup.network.precision == "bfloat16":
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()
