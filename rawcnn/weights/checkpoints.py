"""Read TensorFlow's checkpoints: PREFIX.index and PREFIX.data-00000-of-00001, also in the folder of a SavedModel.

Until 2016, tf.train.Saver wrote one file PREFIX instead (SaverDef.V1), as TF-Slim's published checkpoints are.
"""

from __future__ import annotations

import glob
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import trackable_object_graph_pb2

from rawcnn.weights.recognition import kind_of
from rawcnn.weights.stored import Refused, Stored

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# Variables of the training. Keras lists a network's own variables in its optimizer, too. TensorFlow 1 puts the names of
# slots and averages after those of their variables
OTHERS = re.compile(
    r"(^|/)_?optimizer/(?!_trainable_variables)|\.OPTIMIZER_SLOT|(^|/)(save_counter|global_step|beta[12]_power)(/|$)"
    r"|/(Momentum|RMSProp|Adam|Adagrad|Adadelta|Ftrl)(_\d)?$|/ExponentialMovingAverage$"
)


def checkpoint_prefix(path: Path) -> Path | None:
    """Return the prefix of the checkpoint that a path names, or None.

    Args:
        path: The prefix itself, one of the checkpoint's files, or the folder of one checkpoint or SavedModel.

    Raises:
        Refused: One of the checkpoint's files is missing.
    """
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
    if path.is_dir():
        latest = tf.train.latest_checkpoint(str(path)) if (path / "checkpoint").is_file() else None
        prefix = Path(latest) if latest else path / "variables" / "variables"
    if prefix.with_name(f"{prefix.name}.index").is_file():
        if not any(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*")):
            raise Refused(f"lacks its values: {prefix.name}.data-00000-of-00001 is missing; put it next to the .index")
        return prefix
    if prefix != path and prefix.is_file() and kind_of(prefix) == "checkpoint":  # SaverDef.V1
        return prefix
    if prefix.name != path.name and path.is_file():
        raise Refused(f"is a part of a TensorFlow checkpoint, whose {prefix.name}.index is missing; put it next to it")
    return None


def checkpoint(prefix: Path, stack: ExitStack) -> dict[str, Stored]:
    """Return the variables of a checkpoint, without the optimizer's."""
    reader = tf.train.load_checkpoint(str(prefix))
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    called = _own_names(reader) if GRAPH in shapes else {}
    tensors = {}
    for key in sorted(shapes):
        name = called.get(key, _unescaped(key))
        if types[key] != tf.string and not OTHERS.search(key):
            tensors[name] = Stored(tuple(shapes[key]), types[key].name, partial(reader.get_tensor, key))
    return tensors


def _own_names(reader) -> dict[str, str]:
    """Return key → the variable's own name, for names like Keras's: "conv1_conv/kernel"."""
    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(GRAPH))
    return {a.checkpoint_key: a.full_name for node in graph.nodes for a in node.attributes if "/" in a.full_name}


def _unescaped(key: str) -> str:
    """Return a key as it was: tf.train.Checkpoint writes "conv1/bn/mean" as "conv1.Sbn.Smean/.ATTRIBUTES/…"."""
    if not key.endswith(VALUE):
        return key
    return re.sub(r"\.(S|\.)", lambda mark: "/" if mark[1] == "S" else ".", key.removesuffix(VALUE))
