"""A network as a folder that runs without rawcnn: a TensorFlow SavedModel, or StableHLO for other compilers.

savedmodel   a SavedModel, for TensorFlow Serving and `tf.saved_model.load`. Its signature `serving_default` takes
             images [B,size,size,3], any B, and gives logits and probabilities [B,classes]; where the names of the
             classes are known, the signature `labels` takes nothing and gives them as strings [classes]
stablehlo    model.mlirbc           the function (variable, …, images) → logits [B,classes], one B, as a portable
                                    artifact of StableHLO: what JAX and other compilers of OpenXLA read
             variables.safetensors  the variables, under rawcnn's paths

Both hold manifest.json: the network's name and settings, the names of its classes, and what goes in and comes out, in
order. Images are float32 RGB in [0,1]; preprocessing is inside.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

import kernels
import rawcnn
from kernels.compiler import compiled_by
from rawcnn.nn.network import Network
from rawcnn.weights import save_weights

MANIFEST = "manifest.json"
# The version that is written. StableHLO promises five years in which newer readers take older artifacts
# (openxla/stablehlo, docs/compatibility.md), so the oldest that has what networks need is read most widely.
STABLEHLO = "1.0.0"


def export(network: Network, folder: str | Path, format: str = "savedmodel", *, batch: int | None = None) -> dict:
    """Write `network` to `folder` as "savedmodel" or "stablehlo" → what its manifest.json says.

    `batch` fixes how many images it takes; without it a SavedModel takes any number, StableHLO 1. An earlier export in
    `folder` is replaced when the new one is whole. ValueError for a wrong format or batch, class names that are not as
    many as the classes, and a folder that holds something else or cannot be written: it stays as it was.
    """
    check(folder, format, batch)
    network.check_labels()
    about = {
        "rawcnn": rawcnn.__version__,
        "tensorflow": tf.version.VERSION,
        "format": format,
        "model": network.name,
        "settings": network.settings,
        "precision": network.precision,
        "labels": network.labels,
    }
    with _replaced(Path(folder)) as new:
        manifest = about | FORMATS[format](network, new, batch)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


def check(folder: str | Path, format: str, batch: int | None = None) -> None:
    """Told before the work: ValueError for what `export` cannot take, or a folder that it must not replace."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected {' or '.join(FORMATS)}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; expected 1 or more images")
    folder = Path(folder)
    if folder.exists() and not _is_ours(folder):
        raise ValueError(f"{folder} is there and is no earlier export, so it is left alone; name another folder")


def inference_variables(network: Network) -> dict[str, tf.Variable]:
    """The variables that inference reads, in the order of the layers: those of auxiliary heads are not among them."""
    return {p.path: network.variables[p.path] for operation in network.operations for p in operation.parameters}


def _saved_model(network: Network, folder: Path, batch: int | None) -> dict:
    """Write the SavedModel; its part of the manifest."""
    images = tf.TensorSpec([batch, network.input_size, network.input_size, 3], tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images):
        with compiled_by("nobody"):  # forms that were measured here, and islands of XLA, stay here
            logits = network(images)
        return {"logits": logits, "probabilities": kernels.softmax(logits)}

    module = tf.Module()
    module.variables_by_path = inference_variables(network)
    signatures = {"serving_default": serve}
    if network.labels:
        names = list(network.labels)
        signatures["labels"] = tf.function(lambda: {"labels": tf.constant(names)}, input_signature=[], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    results = [_described(name, [batch, network.classes]) for name in ("logits", "probabilities")]
    return {"arguments": [_described("images", images.shape)], "results": results}


def _stablehlo(network: Network, folder: Path, batch: int | None) -> dict:
    """Write the module and the variables; their part of the manifest."""
    from tensorflow.compiler.mlir.stablehlo import stablehlo

    batch = batch or 1
    variables = inference_variables(network)
    text = lower(network, batch)
    (folder / "model.mlirbc").write_bytes(stablehlo.serialize_portable_artifact_str(text, STABLEHLO))
    save_weights(network, folder / "variables.safetensors", variables)
    images = [batch, network.input_size, network.input_size, 3]
    return {
        "stablehlo": STABLEHLO,
        "module": "model.mlirbc",
        "function": "main",
        "variables": "variables.safetensors",
        "arguments": [_described(p, v.shape) for p, v in variables.items()] + [_described("images", images)],
        "results": [_described("logits", [batch, network.classes])],
    }


def lower(network: Network, batch: int = 1) -> str:
    """`network` as StableHLO text: @main(each of `inference_variables`, images [B,size,size,3]) → logits [B,classes].

    XLA's own lowering before any optimisation. ValueError where TensorFlow is too old for it.
    """
    variables = inference_variables(network)

    def logits(*arguments):
        *values, images = arguments
        return network.trace(dict(zip(variables, values, strict=True)), images).logits

    images = tf.TensorSpec([batch, network.input_size, network.input_size, 3], tf.float32)
    arguments = [*(tf.TensorSpec(v.shape, tf.float32) for v in variables.values()), images]
    return lower_function(logits, arguments, network.name)


def lower_function(function: Callable, arguments: Sequence[tf.TensorSpec], name: str) -> str:
    """A function of tensors as StableHLO text, its @main taking the `arguments` in their order.

    Kernels take their defaults, for forms that were measured here are for this machine, or what a `compiled_by` of the
    function's own says. ValueError where TensorFlow is too
    old to lower.
    """

    def traced(*tensors):
        with compiled_by("nobody"):
            return function(*tensors)

    ir = tf.function(traced, jit_compile=True, autograph=False).experimental_get_compiler_ir(*arguments)
    try:
        with tf.device("CPU:0"):  # the same module whether or not this machine has a GPU
            text = ir(stage="stablehlo")
    except ValueError as error:
        raise ValueError(
            f"this TensorFlow, {tf.version.VERSION}, cannot lower to StableHLO ({error}); 2.19 and later can"
        ) from error
    # Source locations are paths of this machine, and the header counts what was traced before: neither goes along
    text = tf.mlir.experimental.run_pass_pipeline(text, "strip-debuginfo")
    return re.sub(r"module @\S+ attributes \{.*\} \{", f'module @"{name}" {{', text, count=1)


FORMATS: dict[str, Callable[..., dict]] = {"savedmodel": _saved_model, "stablehlo": _stablehlo}


def _described(name: str, shape) -> dict:
    """An argument or a result of the exported function: all of them are float32."""
    return {"name": name, "shape": list(shape), "dtype": "float32"}


def _is_ours(folder: Path) -> bool:
    """Is `folder` empty, or did `export` write it?"""
    try:
        if not any(folder.iterdir()):
            return True
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):  # a file, another's folder, or a manifest that is no JSON
        return False
    return isinstance(manifest, dict) and "rawcnn" in manifest


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new empty folder to write into, which becomes `folder` at the end; where the body raises, that stays as it was.

    ValueError where it cannot be written.
    """
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # On the same disk, so that moving is renaming; inside the private folder, one with usual permissions
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as beside:
            new, old = Path(beside, "new"), Path(beside, "old")
            new.mkdir()
            yield new
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            finally:
                if old.exists() and not target.exists():
                    old.rename(target)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"the export could not be written to {folder}: {reason}; name another folder") from error
