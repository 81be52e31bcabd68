"""Export a network to a folder that runs without rawcnn: a TensorFlow SavedModel, or StableHLO for other compilers.

savedmodel   A SavedModel for TensorFlow Serving and `tf.saved_model.load`. The signature `serving_default` maps images
             [B,H,W,3], for any B, to logits and probabilities [B,classes]. If class names are known, the
             signature `labels` returns them as strings [classes].
stablehlo    model.mlirbc           the function (variable, …, images) → logits [B,classes] for one B, as a portable
                                    StableHLO artifact, which JAX and other OpenXLA compilers read
             variables.safetensors  the variables, under rawcnn's paths

Both contain manifest.json: the network's name and settings, its class names, and the arguments and results in order.
Images are float32 RGB in [0,1]. The exported function includes the preprocessing.
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
from kernels.forms.compiler import compiled_by
from rawcnn import __version__
from rawcnn.files.atomic import synchronize
from rawcnn.nn.arguments import whole_number
from rawcnn.nn.network import Network
from rawcnn.weights import save_weights

MANIFEST = "manifest.json"
# The version of the artifacts. StableHLO guarantees for five years that newer readers accept older artifacts
# (openxla/stablehlo, docs/compatibility.md). The oldest version that has the necessary operations suits most readers.
STABLEHLO = "1.0.0"


def export(network: Network, folder: str | Path, format: str = "savedmodel", *, batch: int | None = None) -> dict:
    """Export a network.

    Args:
        network: The network.
        folder: The folder to write. An earlier export in it is replaced when the new one is complete.
        format: "savedmodel" or "stablehlo".
        batch: Number of images that the export accepts. By default, a SavedModel accepts any number, StableHLO one.

    Returns:
        The content of manifest.json.

    Raises:
        ValueError: The format or the batch is wrong, the network has no classifier, the number of class names differs
            from the number of classes, or the folder holds something else or cannot be written. The folder is then
            unchanged.
    """
    check(folder, format, batch)
    batch = None if batch is None else whole_number("batch", batch)
    network.check_classifier()
    network.check_labels()
    metadata = {
        "rawcnn": __version__,
        "tensorflow": tf.version.VERSION,
        "format": format,
        "model": network.name,
        "settings": network.settings,
        "precision": network.precision,
        "labels": network.labels,
    }
    with _replaced(Path(folder)) as new:
        manifest = metadata | FORMATS[format](network, new, batch)
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


def check(folder: str | Path, format: str, batch: int | None = None) -> None:
    """Check the arguments of `export` before any work is done.

    Raises:
        ValueError: The format or the batch is wrong, or the folder is not an earlier export.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; expected {' or '.join(FORMATS)}")
    if batch is not None:
        whole_number("batch", batch)
    folder = Path(folder)
    if folder.exists() and not _is_replaceable(folder):
        raise ValueError(f"{folder} exists and is not an earlier export, so it is not replaced; name another folder")


def inference_variables(network: Network) -> dict[str, tf.Variable]:
    """Return the variables that inference reads, in the order of the layers, without those of auxiliary heads."""
    return {p.path: network.variables[p.path] for operation in network.operations for p in operation.parameters}


def _saved_model(network: Network, folder: Path, batch: int | None) -> dict:
    """Write the SavedModel, and return its part of the manifest."""
    images = tf.TensorSpec([batch, *network.image_size, 3], tf.float32, name="images")

    @tf.function(input_signature=[images], autograph=False)
    def serve(images):
        with compiled_by("portable"):  # forms that were measured here, and islands of XLA, stay here
            logits = network(images)
        return {"logits": logits, "probabilities": kernels.softmax(logits)}

    module = tf.Module()
    module.variables_by_path = inference_variables(network)
    signatures = {"serving_default": serve}
    if network.labels:
        names = list(network.labels)
        signatures["labels"] = tf.function(lambda: {"labels": tf.constant(names)}, input_signature=[], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=signatures)
    results = [_described(name, [batch, network.classes], network.wide) for name in ("logits", "probabilities")]
    return {"arguments": [_described("images", images.shape)], "results": results}


def _stablehlo(network: Network, folder: Path, batch: int | None) -> dict:
    """Write the module and the variables, and return their part of the manifest."""
    from tensorflow.compiler.mlir.stablehlo import stablehlo

    batch = batch or 1
    variables = inference_variables(network)
    text = lower(network, batch)
    (folder / "model.mlirbc").write_bytes(stablehlo.serialize_portable_artifact_str(text, STABLEHLO))
    save_weights(network, folder / "variables.safetensors", variables)
    images = [batch, *network.image_size, 3]
    return {
        "stablehlo": STABLEHLO,
        "module": "model.mlirbc",
        "function": "main",
        "variables": "variables.safetensors",
        "arguments": [_described(p, v.shape, v.dtype) for p, v in variables.items()] + [_described("images", images)],
        "results": [_described("logits", [batch, network.classes], network.wide)],
    }


def lower(network: Network, batch: int = 1) -> str:
    """Lower a network to StableHLO text, by XLA and before any optimization.

    Returns:
        A module with @main(each of `inference_variables`, images [B,H,W,3]) → logits [B,classes].

    Raises:
        ValueError: TensorFlow is too old.
    """
    variables = inference_variables(network)

    def logits(*arguments):
        *values, images = arguments
        return network.trace(dict(zip(variables, values, strict=True)), images).logits

    images = tf.TensorSpec([batch, *network.image_size, 3], tf.float32)
    arguments = [*(tf.TensorSpec(v.shape, v.dtype) for v in variables.values()), images]
    return lower_function(logits, arguments, network.name)


def lower_function(function: Callable, arguments: Sequence[tf.TensorSpec], name: str) -> str:
    """Lower a function of tensors to StableHLO text. Its @main takes the arguments in their order.

    Kernels use their default forms, not those measured on this machine, unless the function itself uses `compiled_by`.

    Raises:
        ValueError: TensorFlow is too old.
    """

    def traced(*tensors):
        with compiled_by("portable"):
            return function(*tensors)

    ir = tf.function(traced, jit_compile=True, autograph=False).experimental_get_compiler_ir(*arguments)
    try:
        with tf.device("CPU:0"):  # the same module whether or not this machine has a GPU
            text = ir(stage="stablehlo")
    except ValueError as error:
        raise ValueError(
            f"this TensorFlow, {tf.version.VERSION}, cannot lower to StableHLO ({error}); 2.19 and later can"
        ) from error
    # Source locations are paths of this machine, and the header contains a counter of traces: remove both
    text = tf.mlir.experimental.run_pass_pipeline(text, "strip-debuginfo")
    return re.sub(r"module @\S+ attributes \{.*\} \{", f'module @"{name}" {{', text, count=1)


FORMATS: dict[str, Callable[..., dict]] = {"savedmodel": _saved_model, "stablehlo": _stablehlo}


def _described(name: str, shape, dtype: tf.DType = tf.float32) -> dict:
    """Describe an argument or a result of the exported function."""
    return {"name": name, "shape": list(shape), "dtype": dtype.name}


def _is_replaceable(folder: Path) -> bool:
    """Return whether `folder` is empty or an earlier export."""
    try:
        if not any(folder.iterdir()):
            return True
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):  # a file, another folder, or a manifest that is no JSON
        return False
    return isinstance(manifest, dict) and "rawcnn" in manifest


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Yield a new empty folder that replaces `folder` at the end. After an error, `folder` is unchanged.

    Raises:
        ValueError: The folder cannot be written.
    """
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # On the same disk, so that moving is renaming. TemporaryDirectory is private; `new` has the usual permissions.
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
            new, old = Path(temporary, "new"), Path(temporary, "old")
            new.mkdir()
            yield new
            for path in (*new.rglob("*"), new):
                synchronize(path)
            if target.exists():
                target.rename(old)
            try:
                new.rename(target)
            finally:
                if old.exists() and not target.exists():
                    old.rename(target)
            synchronize(target.parent)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"the export could not be written to {folder}: {reason}; name another folder") from error
