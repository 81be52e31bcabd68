"""The equation and the five sections of an operation's kernel, and the source of the functions that ran."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rawcnn.explain.recording import KernelCall
from rawcnn.explain.source import short_name, source_of
from rawcnn.nn.preprocessing import PREPROCESSING

# kind of operation → the file of `kernels` that explains it
FILES = {
    "conv": "convolution",
    "dense": "linear",
    "batch_norm": "normalization",
    "lrn": "response",
    "relu": "activation",
    "max_pool": "pooling",
    "average_pool": "pooling",
    "global_average_pool": "pooling",
    "dropout": "dropout",
    "drop_path": "dropout",
    "pad": "geometry",
    "discretize": "discretization",
    "concatenate": "combine",
    "residual_sum": "combine",
    "sigmoid": "channel_gate",
    "scale_channels": "channel_gate",
    "zero_padded_shortcut": "shortcut",
    "cross_entropy": "loss",
}
# kind of operation → how the lines of its file's first section begin that are its equation
EQUATIONS = {
    "conv": ("y[",),
    "dense": ("y = ",),
    "batch_norm": ("y = ",),
    "lrn": ("y_i = ",),
    "relu": ("relu(x) = ",),
    "max_pool": ("maximum ",),
    "average_pool": ("average ",),
    "global_average_pool": ("global ",),
    "dropout": ("r ~ ",),
    "drop_path": ("r ~ ",),
    "onehot": ("l = ", "onehot(x)_k = "),
    "thermometer": ("l = ", "thermometer(x)_k = "),
    "concatenate": ("concatenate(",),
    "residual_sum": ("residual_sum(",),
    "scaled_residual_sum": ("scaled_residual_sum(",),
    "sigmoid": ("sigmoid(x) = ",),
    "scale_channels": ("scale_channels: ",),
    "zero_padded_shortcut": ("y[", "front = ", "(zeros="),
    "cross_entropy": ("log_softmax(z)ᵢ = ", "q  = ", "L  = "),
}
HEADING = re.compile(r"^# (\d)\. (.+?) -+$", re.MULTILINE)
PADDING_FUNCTIONS = ("crop_or_pad", "crop_or_pad_gradient")  # of kernels/geometry.py, which has no sections


def sections(file: str) -> dict[str, Any]:
    """Return the five sections of a kernel's file.

    Args:
        file: The file's name without ending, one of FILES.

    Returns:
        {"file", "sections": [{"title", "line", "source"}]}; `line` is where the section begins in the file.
    """
    path = str(importlib.import_module(f"kernels.{file}").__file__)
    source = source_of(path)
    if file == FILES["pad"]:
        parts = [_function(path, name) for name in PADDING_FUNCTIONS]
    else:
        headings = list(HEADING.finditer(source))
        ends = [*(heading.start() for heading in headings[1:]), len(source)]
        parts = [
            {
                "title": heading[2],
                "line": source.count("\n", 0, heading.start()) + 1,
                "source": source[heading.end() : end].strip("\n"),
            }
            for heading, end in zip(headings, ends, strict=True)
        ]
    return {"file": short_name(path), "sections": parts}


def equation(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the equation of an operation as it stands in the source.

    Args:
        kind: The operation's kind.
        settings: The operation's settings; some kinds have an equation for each of several settings.

    Returns:
        {"file", "line", "text"}: lines of the first section of the kernel's file, without their comment signs. Padding
        has no sections: the text is the first line of its docstring. Preprocessing is no kernel: the text is what its
        function returns.
    """
    if kind == "preprocessing":
        return _returned(PREPROCESSING[settings["rule"]])
    path = str(importlib.import_module(f"kernels.{FILES[kind]}").__file__)
    lines = source_of(path).splitlines()
    if kind == "pad":
        number = next(n for n, line in enumerate(lines) if line.startswith(f"def {PADDING_FUNCTIONS[0]}(")) + 1
        return {"file": short_name(path), "line": number + 1, "text": lines[number].strip().strip('"')}
    begin, end = (next(n for n, line in enumerate(lines) if line.startswith(f"# {section}. ")) for section in (1, 2))
    numbers = [n for n in range(begin, end) if lines[n].startswith("#   ")]
    beginnings = EQUATIONS[_variant(kind, settings)]
    found = [n for n in numbers if lines[n][4:].strip().startswith(beginnings)]
    return {"file": short_name(path), "line": found[0] + 1, "text": "\n".join(lines[n][4:].rstrip() for n in found)}


def _variant(kind: str, settings: Mapping[str, Any]) -> str:
    """Return the key of EQUATIONS for a kind of operation with its settings."""
    if kind == "discretize":
        return str(settings["code"])
    return "scaled_residual_sum" if kind == "residual_sum" and "scale" in settings else kind


def _returned(function: Callable) -> dict[str, Any]:
    """Return the expression that a function of one line returns."""
    path, (lines, first) = str(inspect.getsourcefile(function)), inspect.getsourcelines(function)
    return {"file": short_name(path), "line": first + len(lines) - 1, "text": lines[-1].strip().removeprefix("return ")}


def _function(path: str, name: str) -> dict[str, Any]:
    """Return a function of a file as a section."""
    (node,) = (n for n in ast.parse(source_of(path)).body if isinstance(n, ast.FunctionDef) and n.name == name)
    return {"title": name, "line": node.lineno, "source": _lines(path, node.lineno)}


def form(calls: Sequence[KernelCall]) -> dict[str, Any] | None:
    """Return the function that computed an operation's output, with its source; None if no kernel ran.

    The functions of `kernels/dispatch` check and choose. The last one that is called outside of it does the work. If
    none is, a graph that was compiled before did it, and the last function of `kernels/dispatch` names it.
    """
    if not calls:
        return None
    last = ([one for one in calls if Path(one.file).parent.name != "dispatch"] or list(calls))[-1]
    return {
        "file": short_name(last.file),
        "line": last.line,
        "name": last.name,
        "source": _lines(last.file, last.line),
        "calls": [f"{short_name(one.file)}: {one.name}" for one in calls],
    }


def _lines(file: str, first: int) -> str:
    """Return the source of the definition that begins at a line."""
    return "".join(inspect.getblock(source_of(file).splitlines(keepends=True)[first - 1 :]))
