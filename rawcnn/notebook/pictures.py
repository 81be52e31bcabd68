"""What the pictures of several results share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from rawcnn.visualize import TopInput


SHOWN = 8  # images or channels of a picture, and images of a table
PER_CHANNEL = 5  # inputs of each channel
TILE = 64  # pixels of an input's side
DPI = 80  # pixels per inch of pictures


def rows_png(rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[Sequence[str]]) -> bytes | None:
    """Return a PNG with rows of pictures; nothing if there are none."""
    from rawcnn.plots import figures

    if not any(map(len, rows.values())):
        return None
    return figures.encoded(figures.picture_rows(rows, titles), dpi=DPI)


def inputs_png(rows: Mapping[str, Sequence[TopInput]]) -> bytes | None:
    """Return a PNG with rows of inputs. Each is a receptive field, and to its right the image with its box."""
    from rawcnn.visualize import contact_sheet

    pictures = {name: [contact_sheet([x], tile=TILE, gap=0) for x in inputs] for name, inputs in rows.items()}
    titles = [[f"image {x.index}: {x.activation:.3g}" for x in inputs] for inputs in rows.values()]
    return rows_png(pictures, titles)


def class_numbers(count: int) -> list[str]:
    """Return the names of classes in results that know only their numbers."""
    return [f"class {number}" for number in range(count)]


def images_text(images: np.ndarray) -> str:
    """Return how many images there are, and their size."""
    count, height, width, _ = images.shape
    return f"{count} images of {height}×{width}"


def numbers_text(values: Sequence[float] | np.ndarray) -> str:
    """Return the first numbers of a list."""
    return ", ".join(f"{value:.4g}" for value in values[:SHOWN]) + (", …" if len(values) > SHOWN else "")
