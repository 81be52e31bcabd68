"""A profile: a row for each operation, and the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.html_table import shape_text, table

if TYPE_CHECKING:
    from rawcnn.profiling.costs import Profile


def text(profile: Profile) -> str:
    """Name the model and its totals."""
    size = profile.size if isinstance(profile.size, int) else "×".join(map(str, profile.size))
    totals = profile.totals
    return (
        f"Profile({profile.model}, batch {profile.batch}, {size} px, {profile.precision}: "
        f"{totals['parameters']:,} parameters, {totals['macs']:,} MACs, {len(profile.rows)} operations)"
    )


def html(profile: Profile) -> str:
    """Return a row for each operation, and the totals below."""
    from rawcnn.nn.kinds import NAMES

    header = ("operation", "kind", "output", "parameters", "MACs", "FLOPs forward", "FLOPs backward", "receptive field")
    rows = (
        (
            row["name"],
            NAMES.get(row["kind"], row["kind"]),
            shape_text(row["output_shape"]),
            row["parameters"],
            row["macs"],
            row["flops_forward"],
            row["flops_backward"],
            row["receptive_field"] or "image",
        )
        for row in profile.rows
    )
    totals = profile.totals
    note = (
        f"In all {totals['parameters']:,} parameters, {totals['macs']:,} MACs, {totals['flops_forward']:,} FLOPs "
        f"forward, {totals['flops_backward']:,} backward, and {totals['activation_bytes'] / 2**20:,.1f} MiB of "
        "activations. FLOPs are 2 × MACs plus the elementwise operations."
    )
    return table(text(profile), header, rows, [note])
