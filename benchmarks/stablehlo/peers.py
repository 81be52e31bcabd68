"""The peers of an exported workload: Keras on its JAX backend and PyTorch, with the same layers, precision and step.

Keras runs `predict_on_batch` and `train_on_batch` with jit_compile, its default on a GPU, and a hand-written `jax.jit`
around the model. PyTorch runs eagerly and by torch.compile, in channels_last, under autocast. Libraries that are not
installed are left out. Weights are drawn from the same seed. Each peer returns the result of its first call, the logits
or the loss, for the comparison.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stablehlo import arrays
from benchmarks.stablehlo.arrays import MOMENTUM, RATE
from benchmarks.twins.specification import ModelSpecification, read_model

Run = Callable[[int], np.ndarray]  # number of calls → the result of the last one, which is waited for
JOBS = ("inference", "training")


def names(manifest: Mapping[str, Any], begin: Sequence[str]) -> list[str]:
    """Return the installed peers that can compute the workload and whose names begin with one of `begin`."""
    found = [name for name, (_, needs) in PEERS.items() if all(map(find_spec, needs))]
    return [n for n in found if n.startswith(tuple(begin))] if manifest["job"] in JOBS and manifest["model"] else []


def make(name: str, folder: Path, batch: int) -> dict[str, Peer]:
    """Return the peer by name, with the workload's weights. This runs in a separate process."""
    manifest = json.loads((folder / "manifest.json").read_text())
    model = read_model(json.dumps(manifest["model"]))
    drawn = arrays.variables({path: tuple(shape) for path, shape in manifest["paths"].items()})
    images = arrays.draw("images", (batch, *model.size, 3), "uniform")
    labels = arrays.draw("labels", (batch,), "labels", "int32")
    build, _ = PEERS[name]
    return {name: Peer(build(manifest["job"], manifest["precision"], model, drawn, images, labels))}


class Peer:
    """A peer after its first call, which traces and compiles."""

    def __init__(self, run: Run):
        self.run, self._answer = run, run(1)

    def first(self) -> np.ndarray:
        """Return the result of the first call: the logits or the loss."""
        return self._answer


def _twin(model: ModelSpecification, precision: str, drawn: Mapping[str, np.ndarray]) -> Any:
    """Return the Keras model with these weights. Raise RuntimeError if Keras has another backend than JAX."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    from benchmarks.twins.keras import build, variable_of

    if keras.backend.backend() != "jax":
        raise RuntimeError(f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=jax")
    twin = build(model, precision)
    for path, value in drawn.items():
        variable = variable_of(twin, path)
        variable.assign(value.reshape(variable.shape))
    return twin


def _keras(job: str, precision: str, model: ModelSpecification, drawn, images, labels) -> Run:
    """Keras's predict_on_batch or train_on_batch, which waits for each call."""
    import jax
    import keras

    twin = _twin(model, precision, drawn)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    twin.compile(keras.optimizers.SGD(RATE, momentum=MOMENTUM), loss, jit_compile=True)
    x, y = jax.device_put(images), jax.device_put(labels)

    def run(count: int) -> np.ndarray:
        for _ in range(count):
            result = twin.train_on_batch(x, y) if job == "training" else twin.predict_on_batch(x)
        return np.asarray(result)

    return run


def _keras_function(job: str, precision: str, model: ModelSpecification, drawn, images, labels) -> Run:
    """One jit around the model's stateless call, with hand-written gradients and momentum."""
    import jax
    from jax import numpy as jnp

    twin = _twin(model, precision, drawn)
    x, y = jax.device_put(images), jax.device_put(labels)
    trained, rest = ([v.value for v in group] for group in (twin.trainable_variables, twin.non_trainable_variables))

    def infer(trained, rest, x):
        return twin.stateless_call(trained, rest, x, training=False)[0]

    def loss_of(trained, rest, x, y):
        logits, new = twin.stateless_call(trained, rest, x, training=True)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)), new

    def step(trained, rest, velocities, x, y):
        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained, rest, x, y)
        velocities = [MOMENTUM * v - RATE * g for v, g in zip(velocities, gradients, strict=True)]
        return loss, [w + v for w, v in zip(trained, velocities, strict=True)], rest, velocities

    if job == "inference":
        predict = jax.jit(infer)

        def run(count: int) -> np.ndarray:
            for _ in range(count):
                logits = predict(trained, rest, x)
            return np.asarray(logits)

        return run
    train, state = jax.jit(step, donate_argnums=(0, 1, 2)), [trained, rest, [jnp.zeros_like(w) for w in trained]]

    def run_steps(count: int) -> np.ndarray:
        for _ in range(count):
            loss, *state[:] = train(*state, x, y)
        return np.asarray(loss)

    return run_steps


def _torch(mode: str, job: str, precision: str, model: ModelSpecification, drawn, images, labels) -> Run:
    """PyTorch's modules in channels_last, eager or by torch.compile; fused SGD."""
    import torch

    from benchmarks.twins.torch import Twin

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True  # XLA's default
    torch.backends.cudnn.benchmark = True
    x, y = torch.from_numpy(images).to(device), torch.from_numpy(labels).long().to(device)
    twin: Any = Twin(model)
    twin.load(drawn)
    twin = twin.to(device)
    call = torch.compile(twin) if mode == "compile" else twin
    optimizer = torch.optim.SGD([p for p in twin.parameters() if p.requires_grad], RATE, MOMENTUM, fused=True)
    half = partial(torch.autocast, device, torch.bfloat16) if precision == "bfloat16" else nullcontext

    def infer() -> torch.Tensor:
        with torch.inference_mode(), half():
            return call(x)

    def train() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with half():
            logits = call(x)
        loss = torch.nn.functional.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def run(count: int) -> np.ndarray:
        twin.train(job == "training")
        for _ in range(count):
            result = train() if job == "training" else infer()
        return result.float().cpu().numpy()  # waits for the device

    return run


PEERS: dict[str, tuple[Callable[..., Run], Sequence[str]]] = {  # name → (builder, required packages)
    "keras jax": (_keras, ("keras", "jax")),
    "keras function jax": (_keras_function, ("keras", "jax")),
    "torch eager": (partial(_torch, "eager"), ("torch",)),
    "torch compile": (partial(_torch, "compile"), ("torch",)),
}
