"""Count the costs of each layer: parameters, MACs, FLOPs, memory, receptive field, arithmetic intensity.

A symbolic trace of the model yields all counts. It computes nothing and creates no variable. MACs are the
multiply-accumulates of convolutions and dense layers. FLOPs are 2·MACs plus the elementwise operations. Parameters are
the trained ones. Other tools count differently: torchvision's "GFLOPS" are MACs, TensorFlow's profiler counts 2·MACs.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from rawcnn.models import find_model
from rawcnn.nn.arguments import Size, image_size, plain_values, short_size, whole_number
from rawcnn.nn.trace import PRECISIONS, Operation, check_precision, layers_up_to, symbolic_trace

COLUMNS = (
    "name",
    "kind",
    "output_shape",
    "parameters",
    "macs",
    "flops_forward",
    "flops_backward",
    "activation_bytes",
    "receptive_field",
    "stride",
    "intensity",
)


@dataclass(frozen=True)
class Profile:
    """The counted costs of a model for one batch.

    Attributes:
        model: The model's name.
        batch: Images in the batch.
        size: Side of the images in pixels; (height, width) if they are not square.
        precision: "float32", "bfloat16" or "float64".
        rows: A dict with the keys of COLUMNS for each operation.
        totals: Their sums, and the receptive field of the last map.
        operations: The operations of the trace, in the order of `rows`.
    """

    model: str
    batch: int
    size: Size
    precision: str
    rows: list[dict]
    totals: dict
    operations: tuple[Operation, ...]

    def to_dict(self) -> dict[str, object]:
        """Return everything except `operations` as plain values."""
        return {
            "model": self.model,
            "batch": self.batch,
            "size": self.size,
            "precision": self.precision,
            "rows": self.rows,
            "totals": self.totals,
        }

    def to_json(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1)

    def to_csv(self) -> str:
        """The rows as comma-separated values, with a header."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "output_shape": "x".join(map(str, row["output_shape"]))} for row in self.rows)
        return text.getvalue()


def profile(
    model: str,
    batch: int = 1,
    size: Size | None = None,
    *,
    classes: int | None = None,
    precision: str = "float32",
    train: bool = False,
    last: str | None = None,
    **options,
) -> Profile:
    """Count the costs of a model's operations.

    Args:
        model: A name in `rawcnn.MODELS`.
        batch: Images in a batch.
        size: Side of the images in pixels, or (height, width). By default the model's own.
        classes: Number of classes. By default the model's own.
        precision: "float32", "bfloat16" or "float64".
        train: Trace as in training, with auxiliary heads and the batch's statistics.
        last: The operation that the network ends with, as for `rawcnn.create`.
        **options: The model's options, as for `rawcnn.create`.

    Returns:
        The costs of each operation, and their totals.

    Raises:
        ValueError: An argument is out of range, the model has no operation `last`, or the images are too small.
    """
    entry = find_model(model)
    batch = whole_number("batch", batch)
    classes = whole_number("classes", entry.classes if classes is None else classes)
    sides = image_size(entry.size if size is None else size)
    dtype = PRECISIONS[check_precision(precision)]
    configured, layers = entry.configured(classes, **plain_values(options)), layers_up_to(last)
    operations = symbolic_trace(configured, (batch, *sides, 3), train=train, dtype=dtype, layers=layers).operations
    rows = [_row(operation, dtype.size) for operation in operations]
    return Profile(model, batch, short_size(sides), precision, rows, _totals(operations, rows), tuple(operations))


def _row(operation: Operation, element: int) -> dict[str, object]:
    flops, moved = operation.cost.flops, bytes_moved(operation, element)
    return {
        "name": operation.name,
        "kind": operation.kind,
        "output_shape": list(operation.output_shape),
        "parameters": sum(p.count for p in operation.parameters if p.trained),
        "macs": operation.cost.macs,
        "flops_forward": flops,
        "flops_backward": operation.cost.backward_flops,
        "activation_bytes": prod(operation.output_shape) * element,
        "receptive_field": operation.receptive_field.size,
        "stride": operation.receptive_field.stride,
        "intensity": flops / moved,
    }


def bytes_moved(operation: Operation, element: int) -> int:
    """Return the least number of bytes that the forward pass moves: inputs, parameters and output, once each."""
    maps = sum(prod(shape) for shape in (*operation.input_shapes, operation.output_shape))
    return element * maps + sum(p.count * p.dtype.size for p in operation.parameters)  # some are float32 in any case


def _totals(operations: Sequence[Operation], rows: Sequence[dict]) -> dict[str, object]:
    """Return the sums, and the receptive field of the last map before it becomes a vector."""
    maps = [operation for operation in operations if len(operation.output_shape) == 4]
    parameters = [p for operation in operations for p in operation.parameters]
    last = maps[-1] if maps else operations[-1]
    summed = ("parameters", "macs", "flops_forward", "flops_backward", "activation_bytes")
    return {
        **{key: sum(row[key] for row in rows) for key in summed},
        "non_trainable": sum(p.count for p in parameters if not p.trained),
        "parameter_bytes": 4 * sum(p.count for p in parameters),  # variables are float32 in any precision
        "receptive_field": last.receptive_field.size,
        "stride": last.receptive_field.stride,
    }
