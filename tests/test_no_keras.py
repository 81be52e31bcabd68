"""Nothing in rawcnn/ or kernels/ uses a Keras layer, model, optimizer, loss or metric."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ("keras.datasets", "keras.utils.get_file")  # only downloads
# TensorFlow's other names for what Keras defines.
KERAS = (
    "keras",
    "tf_keras",
    "tensorflow.keras",
    "tensorflow.python.keras",
    "tensorflow.python.layers",
    "tensorflow.compat.v1.keras",
    "tensorflow.compat.v1.layers",
    "tensorflow.compat.v2.keras",
    "tensorflow.initializers",
    "tensorflow.losses",
    "tensorflow.metrics",
    "tensorflow.optimizers",
)
MODULES = {("tensorflow", "keras"), ("keras", "utils")}  # may be imported by name; each use of them is checked


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def canonical(name: str) -> str:
    """`tensorflow.keras.datasets` → `keras.datasets`."""
    for prefix in ("tensorflow.", "tensorflow.compat.v1.", "tensorflow.compat.v2."):
        if within(name, (f"{prefix}keras",)):
            return name.removeprefix(prefix)
    return name


def imported(tree: ast.AST) -> dict[str, str]:
    """Return local name → dotted name of the object that an import statement binds to it."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]  # `import a.b` binds a, `import a.b as c` binds a.b
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """Return the full name of `a.b.c`, with `a` replaced by its imported name; None for other expressions."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, names)
        return base and f"{base}.{node.attr}"
    return None


def keras_uses(source: str) -> list[str]:
    """Return each forbidden use of Keras, as `line: name`."""
    tree = ast.parse(source)
    names = imported(tree)
    uses = []
    inner = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}  # the `a.b` of `a.b.c`
    for node in ast.walk(tree):
        found: list[str | None] = []
        if isinstance(node, ast.Name | ast.Attribute) and node not in inner:
            found = [dotted(node, names)]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if "." in alias.name]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [f"{node.module}.{alias.name}" for alias in node.names if (node.module, alias.name) not in MODULES]
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "getattr"
            and isinstance(node.args[1], ast.Constant)
        ):
            found = [f"{dotted(node.args[0], names)}.{node.args[1].value}"]
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):  # importlib.import_module, __import__
            found = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for name in found:
            if name and within(name, KERAS) and not within(canonical(name), ALLOWED):
                uses.append(f"{node.lineno}: {name}")
    return uses


@pytest.mark.parametrize("package", ["rawcnn", "kernels"])
def test_no_file_uses_a_keras_layer_model_optimizer_loss_or_metric(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 10
    uses = [f"{file.relative_to(ROOT)}:{use}" for file in files for use in keras_uses(file.read_text())]
    assert uses == []


@pytest.mark.parametrize(
    "planted",
    [
        "import keras\nkeras.layers.Dense(3)",
        "import keras\ndef f():\n    return keras.losses.categorical_crossentropy",
        "import keras as k\nk.Model()",
        "import keras\nlibrary = keras",
        "import keras\ngetattr(keras, 'layers')",
        "import keras.layers",
        "import keras.optimizers as o",
        "from keras import layers",
        "from keras.metrics import Mean as M",
        "from keras import utils\nutils.to_categorical([1])",
        "import tensorflow as tf\ntf.keras.layers.Conv2D(3, 3)",
        "import tensorflow as tf\ntf.keras.Sequential",
        "import tensorflow as tf\ntf.optimizers.SGD()",
        "import tensorflow as tf\ntf.losses.MeanSquaredError()",
        "import tensorflow as tf\ntf.metrics.Mean()",
        "import tensorflow as tf\ntf.compat.v1.layers.dense",
        "from tensorflow import keras\nkeras.Input",
        "from tensorflow.keras import Model",
        "from tensorflow.keras.layers import Dense",
        "from tensorflow.python.keras.engine import base_layer",
        "import tensorflow as tf\ngetattr(tf, 'keras')",
        "import importlib\nimportlib.import_module('keras.layers')",
        "__import__('keras')",
    ],
)
def test_a_planted_use_is_found(planted):
    assert len(keras_uses(planted)) >= 1


@pytest.mark.parametrize(
    "allowed",
    [
        "import keras\nkeras.utils.get_file(origin='https://example.org')",
        "import keras\ngetattr(keras.datasets, name).load_data()",
        "from keras.datasets import mnist",
        "from keras.utils import get_file",
        "import tensorflow as tf\ntf.keras.utils.get_file('a', 'b')",
        "import tensorflow as tf\ntf.nn.conv2d(x, filters, 1, 'SAME')",
        "from rawcnn.weights import keras\nkeras.sources(network)",  # a module of rawcnn
        "layers = 'keras.layers'",
    ],
)
def test_what_is_allowed_is_not_found(allowed):
    assert keras_uses(allowed) == []
