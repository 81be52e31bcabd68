"""Keras on its JAX backend, and PyTorch, beside an exported workload: the same layers, batch, precision and step.

Keras runs `predict_on_batch` and `train_on_batch` with jit_compile, its default on a GPU; PyTorch eager and by
torch.compile, channels_last, under autocast. What is not installed does not run. Weights are drawn from the same seed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.layers import Model, read_model
from benchmarks.pjrt import arrays
from benchmarks.pjrt.arrays import MOMENTUM, RATE

Run = Callable[[int], None]


def peers(manifest: Mapping[str, Any], batch: int, names: Sequence[str]) -> dict[str, Run]:
    """Those of `names` that are installed and can do the workload: inference and training steps of a network."""
    if manifest["job"] not in ("inference", "training") or not manifest["model"]:
        return {}
    model = read_model(json.dumps(manifest["model"]))
    drawn = arrays.variables({path: tuple(shape) for path, shape in manifest["paths"].items()})
    images = arrays.draw("images", (batch, model.size, model.size, 3), "uniform")
    labels = arrays.draw("labels", (batch,), "labels", "int32")
    found: dict[str, Run] = {}
    if "keras" in names and find_spec("keras"):
        found |= _keras(manifest, model, drawn, images, labels)
    if "torch" in names and find_spec("torch"):
        found |= _torch(manifest, model, drawn, images, labels)
    return found


def _keras(manifest, model: Model, drawn, images, labels) -> dict[str, Run]:
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    if keras.backend.backend() != "jax":
        return {}
    import jax

    from benchmarks.keras_twin import build, variable_of

    twin = build(model, manifest["precision"])
    for path, value in drawn.items():
        variable = variable_of(twin, path)
        variable.assign(value.reshape(variable.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, jit_compile=True)
    x, y = jax.device_put(images), jax.device_put(labels)

    def run(count: int) -> None:
        for _ in range(count):
            if manifest["job"] == "training":
                np.asarray(twin.train_on_batch(x, y))
            else:
                twin.predict_on_batch(x)

    return {"keras jax": run}


def _torch(manifest, model: Model, drawn, images, labels) -> dict[str, Run]:
    import torch

    from benchmarks.torch_twin import Twin

    where = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # as XLA has it
    torch.backends.cudnn.benchmark = True
    half = manifest["precision"] == "bfloat16"
    x, y = torch.from_numpy(images).to(where), torch.from_numpy(labels).long().to(where)

    def precision():
        return torch.autocast(where, torch.bfloat16) if half else nullcontext()

    def wait() -> None:
        if where == "cuda":
            torch.cuda.synchronize()

    def runner(twin, call) -> Run:
        def infer(count: int) -> None:
            twin.eval()
            with torch.inference_mode(), precision():
                for _ in range(count):
                    call(x)
            wait()

        optimizer = torch.optim.SGD([p for p in twin.parameters() if p.requires_grad], RATE, MOMENTUM, fused=True)

        def train(count: int) -> None:
            twin.train()
            for _ in range(count):
                optimizer.zero_grad(set_to_none=True)
                with precision():
                    logits = call(x)
                torch.nn.functional.cross_entropy(logits, y).backward()
                optimizer.step()
            wait()

        return train if manifest["job"] == "training" else infer

    runs: dict[str, Run] = {}
    for name in ("eager", "compile"):
        twin = Twin(model)
        twin.load(drawn)
        module: Any = twin
        module = module.to(where)
        runs[f"torch {name}"] = runner(module, torch.compile(module) if name == "compile" else module)
    return runs
