"""An activation atlas as a page: one HTML file with icons, data and script inside, which loads nothing.

The icons of a grid are one picture, a sheet. The sheet of the coarsest grid has each icon at its place in the atlas. It
is what a print shows, and a browser without scripts. The page's security policy allows no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from markupsafe import Markup
from PIL import Image

from rawcnn.report.html import read, render
from rawcnn.visualize.atlas import Atlas, Level
from rawcnn.visualize.pictures import fit

PAPER = (252, 251, 249)  # style.css's background, for JPEG sheets, which have no transparency
PNG_PIXELS = 400_000  # larger sheets are JPEG
QUALITY = 90
BLOCK = 8  # pixels of JPEG's blocks; icons begin at block borders, so that they do not bleed into each other
FULL = 0.9  # quantile of the counts from which on an icon fills its cell
SMALLEST = 0.35  # smallest side of an icon, as a share of the cell's


def atlas_page(atlas: Atlas, labels: Sequence[str] | None = None, title: str = "", lead: str = "") -> str:
    """Render the page.

    Args:
        atlas: The atlas.
        labels: Names of all classes in order. By default classes are numbered.
        title: The page's title. By default it names the layer and the network.
        lead: The paragraph below it. By default it describes the data.

    Returns:
        One HTML file.

    Raises:
        ValueError: A class that is shown has no label.
    """
    last = max(int(level.classes.max(initial=-1)) for level in atlas.levels)
    if labels is not None and len(labels) <= last:
        raise ValueError(f"there are {len(labels)} labels, and class {last} is shown; expected one for each class")
    ranked = ranked_classes(atlas.levels)
    names = [f"class {number}" if labels is None else str(labels[number]) for number, _ in ranked]
    ranks = {number: rank for rank, (number, _) in enumerate(ranked)}
    places = [_places(level, first=number == 0) for number, level in enumerate(atlas.levels)]
    levels = [_level(level, at, ranks) for level, at in zip(atlas.levels, places, strict=True)]
    script = read("atlas.js")
    settings = atlas.settings
    return render(
        "atlas.html",
        styles=("atlas.css",),
        title=title or f"What {atlas.layer} of {settings['network']} sees: an activation atlas",
        lead=lead or _lead(atlas),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        levels=[
            {"grid": level.grid, "sheet": sheet_uri(level.icons, at)}
            for level, at in zip(atlas.levels, places, strict=True)
        ],
        classes=[{"name": name, "images": images} for name, (_, images) in zip(names, ranked, strict=True)],
        data={"levels": levels, "classes": names},
        minimum=settings["minimum"],
        settings={name: str(value) for name, value in settings.items()},
    )


def ranked_classes(levels: Sequence[Level]) -> list[tuple[int, int]]:
    """Return (class, images in its cells) of every class that names a cell, most images first.

    The images are counted in the finest grid in which the class has a cell. Levels without classes have none.
    """
    images: dict[int, int] = {}
    for level in levels:
        for number in np.unique(level.classes):
            images[int(number)] = int(level.counts[level.classes == number].sum())
    return sorted(images.items(), key=lambda pair: (-pair[1], pair[0]))


def sheet_uri(icons: np.ndarray, at: np.ndarray) -> str:
    """Return a picture with icons [M,H,W,3] in [0,1] at (column, row) [M,2] as a PNG or, if large, a JPEG."""
    icons = np.stack([fit(icon, side_of(icons)) for icon in icons])  # squares
    side, pitch = side_of(icons), pitch_of(icons)
    columns, rows = at.max(axis=0) + 1
    sheet = np.zeros((rows * pitch, columns * pitch, 4), np.uint8)
    tiles = np.pad(icons, ((0, 0), (0, pitch - side), (0, pitch - side), (0, 0)), mode="edge")
    for tile, (column, row) in zip(np.rint(np.clip(tiles, 0, 1) * 255).astype(np.uint8), at, strict=True):
        place = sheet[row * pitch : (row + 1) * pitch, column * pitch : (column + 1) * pitch]
        place[..., :3], place[..., 3] = tile, 255
    picture, file = Image.fromarray(sheet), io.BytesIO()
    if sheet.shape[0] * sheet.shape[1] <= PNG_PIXELS:
        picture.save(file, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    flat = Image.new("RGB", picture.size, PAPER)
    flat.paste(picture, mask=picture)
    flat.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def pitch_of(icons: np.ndarray) -> int:
    """Return the distance between neighboring icons of a sheet in pixels."""
    return BLOCK * ceil(side_of(icons) / BLOCK)


def side_of(icons: np.ndarray) -> int:
    """Return the longer side of icons [M,H,W,3]: an icon that is not square is shown in the middle of a square."""
    return max(icons.shape[1:3])


def sizes_of(counts: np.ndarray) -> np.ndarray:
    """Return the icons' sides as shares of a cell's: the area ∝ images, up to the count that a tenth of cells reach."""
    return np.clip(np.sqrt(counts / np.quantile(counts, FULL)), SMALLEST, 1)


def _places(level: Level, *, first: bool) -> np.ndarray:
    """Return each icon's (column, row) in its sheet [M,2]: its cell in the coarsest grid, packed in the others."""
    if first:
        return level.cells
    number, columns = np.arange(len(level.cells)), ceil(sqrt(len(level.cells)))
    return np.stack([number % columns, number // columns], axis=1)


def _level(level: Level, at: np.ndarray, ranks: dict[int, int]) -> dict[str, object]:
    """Return the data of a level that the script reads."""
    cells = [
        {
            "x": int(level.cells[i, 0]),
            "y": int(level.cells[i, 1]),
            "at": at[i].tolist(),
            "size": round(float(size), 3),
            "rank": ranks[int(level.classes[i])] if ranks else None,
            "lines": [f"{level.counts[i]:,} images", *(_about_class(level, i) if ranks else ())],
        }
        for i, size in enumerate(sizes_of(level.counts))
    ]
    return {"grid": level.grid, "side": side_of(level.icons), "pitch": pitch_of(level.icons), "cells": cells}


def _about_class(level: Level, i: int) -> tuple[str, str]:
    """Return the lines about the class of a cell."""
    return (
        f"raise its logit by {level.attributions[i]:.2f} (linear estimate)".replace("-", "−"),
        f"{100 * level.shares[i]:.0f} % of them raise this class most",
    )


def _lead(atlas: Atlas) -> str:
    settings, icons = atlas.settings, sum(len(level.cells) for level in atlas.levels)
    return (
        f"{settings['images']:,} images of {settings['data']}, arranged by their activations in {atlas.layer}, and "
        f"{icons:,} icons that show what the layer detects in each cell."
    )
