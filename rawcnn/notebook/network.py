"""A network: a row for each operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.html_table import shape_text, table

if TYPE_CHECKING:
    from rawcnn.nn.network import Network


def html(network: Network) -> str:
    """Return a row for each operation of inference."""
    from rawcnn.nn.kinds import NAMES

    header = ("operation", "kind", "reads", "output", "parameters", "MACs", "receptive field")
    rows = (
        (
            x.name,
            NAMES.get(x.kind, x.kind),
            ", ".join(x.inputs),
            shape_text(x.output_shape),
            sum(p.count for p in x.parameters if p.trained),
            x.cost.macs,
            x.receptive_field.size or "image",
        )
        for x in network.operations
    )
    return table(repr(network), header, rows)
