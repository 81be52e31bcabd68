"""A data set: the first images of each split."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawcnn.notebook.pictures import SHOWN, rows_png

if TYPE_CHECKING:
    from rawcnn.data import DataSet


def text(data: DataSet) -> str:
    """Name the data set, and say how many images it has."""
    splits = ", ".join(f"{data.count(split):,} {split}" for split in data.splits)
    return f"DataSet({data.name}, {len(data.labels)} classes, {'×'.join(map(str, data.size))} px, images: {splits})"


def png(data: DataSet) -> bytes | None:
    """Draw the first images of each split."""
    rows, titles = {}, []
    for split, content in data.splits.items():
        count = min(SHOWN, data.count(split))
        rows[split] = list(data.take(split, range(count)))
        titles.append([data.labels[label] for label in content.labels[:count]])
    return rows_png(rows, titles)
