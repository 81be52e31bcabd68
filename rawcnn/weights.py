"""Weights in files: our own names, or those of published networks, into raw variables and back.

Nothing is half loaded: every name and shape is checked before the first variable changes, and everything that does not
fit is listed at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from rawcnn.network import Network

# rawcnn's last path element → PyTorch's, and the axes that its layout needs: OIHW → HWIO, [out,in] → [in,out]
TORCH_LEAVES: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "filters": ("weight", (2, 3, 1, 0)),
    "weights": ("weight", (1, 0)),
    "bias": ("bias", None),
    "scale": ("weight", None),
    "offset": ("bias", None),
    "mean": ("running_mean", None),
    "variance": ("running_var", None),
}
TORCH_RESNET = (  # rawcnn's operation → torchvision's module, for ResNets and the CIFAR ResNets written after them
    (r"conv1", r"conv1"),
    (r"conv1/bn", r"bn1"),
    (r"conv(\d+)_(\d+)/(conv|bn)(\d)", r"layer{0}.{1}.\3\4"),
    (r"conv(\d+)_(\d+)/shortcut", r"layer{0}.{1}.downsample.0"),
    (r"conv(\d+)_(\d+)/shortcut/bn", r"layer{0}.{1}.downsample.1"),
    (r"classifier", r"fc"),
)


def load_weights(network: Network, path: str | Path) -> None:
    """Load a `.safetensors` or `.npz` file into `network`; the naming scheme is found from the names.

    Raises ValueError with everything that did not fit, and then leaves the network as it was.
    """
    tensors = read(Path(path))
    wanted = _scheme(network, tensors)
    problems, values, used = [], {}, set()
    for variable_path, (name, axes) in wanted.items():
        variable = network.variables[variable_path]
        if name not in tensors:
            problems.append(f"missing {name} for {variable_path} {tuple(variable.shape)}")
            continue
        used.add(name)
        value = tensors[name]
        if axes is not None and value.ndim == len(axes):
            value = value.transpose(axes)
        if value.shape != tuple(variable.shape):
            problems.append(f"{name} is {value.shape}, {variable_path} is {tuple(variable.shape)}")
        elif not np.issubdtype(value.dtype, np.floating):
            problems.append(f"{name} holds {value.dtype}, expected floating point numbers")
        else:
            values[variable_path] = value.astype(np.float32)
    problems += [
        f"unexpected {name} {tensors[name].shape}"
        for name in tensors
        if name not in used and not name.endswith("num_batches_tracked")
    ]
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise ValueError(f"{path} does not fit {network.name}, nothing was loaded: {shown}")
    for variable_path, value in values.items():
        network.variables[variable_path].assign(value)


def save_weights(network: Network, path: str | Path, variables=None) -> None:
    """Write the variables (or `variables`, a dict by path) to a `.safetensors` or `.npz` file, beside and renamed.

    Raises ValueError for another ending, and where the file cannot be written: what was there before then stays.
    """
    path = Path(path)
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected .safetensors or .npz")
    about = {"network": network.name, "settings": network.settings, "labels": network.labels}
    arrays = {name: v.numpy() for name, v in (variables or network.variables).items()}
    beside = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(beside, "wb") as file:
                if path.suffix == ".safetensors":
                    file.write(save(arrays, metadata={"rawcnn": json.dumps(about)}))
                else:
                    np.savez(file, **arrays)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"the weights {path} cannot be written: {error.strerror or error}") from error


def describe(path: str | Path) -> dict:
    """What `save_weights` wrote about the network: its name, settings and class names; {} for files of others."""
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, "numpy") as file:
            return json.loads((file.metadata() or {}).get("rawcnn", "{}"))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error


def read(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file by name. Raises ValueError for a file that is absent, damaged or of another kind."""
    readers: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {".safetensors": load_file, ".npz": _read_npz}
    if path.suffix not in readers:
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected {' or '.join(readers)}")
    if not path.is_file():
        raise ValueError(f"there is no weights file {path}")
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # over a damaged file the readers raise many kinds, and give advice of their own
        raise ValueError(
            f"{path} is damaged, or no {path.suffix[1:]} file: it cannot be read as one ({type(error).__name__})"
        ) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:  # np.load leaves damaged ones open
        return {name: archive[name] for name in archive.files}


def _scheme(network: Network, tensors) -> dict[str, tuple[str, tuple[int, ...] | None]]:
    """Where each variable's value is: path → (name in the file, axes to transpose)."""
    if any("/" in name for name in tensors):
        return {path: (path, None) for path in network.variables}
    return {path: torch_name(path, tensors) for path in network.variables}


def torch_name(path: str, tensors=()) -> tuple[str, tuple[int, ...] | None]:
    """A variable's name in a PyTorch state dict, and the axes to transpose."""
    operation, leaf = path.rsplit("/", 1)
    ending, axes = TORCH_LEAVES[leaf]
    for pattern, module in TORCH_RESNET:
        if match := re.fullmatch(pattern, operation):
            # layer1 is conv2_x, and its blocks count from 0
            place = [int(n) - 1 for n in match.groups()[:2] if n.isdigit()] if "{0}" in module else []
            name = match.expand(module.format(*place))
            if name == "fc" and "linear.weight" in tensors:
                name = "linear"
            return f"{name}.{ending}", axes
    return f"{operation.replace('/', '.')}.{ending}", axes
