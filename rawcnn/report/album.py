"""The pictures of a report: write them into its folder, and return the blocks that show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rawcnn.plots import themed as plots
from rawcnn.report.page import Figure, Tile

INCH = 121  # pixels of the page for an inch of a plot
TILE = 144  # pixels: the longer side of a small picture is enlarged to about this, by a whole factor


class Album:
    """The pictures in a folder. Their names begin with `prefix`.

    All methods write a picture under a name, and raise ValueError if the name is already in use.
    """

    def __init__(self, folder: Path, prefix: str = ""):
        self.folder, self.prefix = Path(folder), prefix
        self._taken: set[str] = set()

    def plot(self, name: str, draw: plots.Draw, size: tuple[float, float], *, alt: str, caption: str = "") -> Figure:
        """Draw a plot for light and for dark screens.

        Args:
            name: Name of the file without its ending.
            draw: The drawing.
            size: Width and height in inches. A width of 5.3 fills the page.
            alt: Description for people who do not see the plot.
            caption: Text below the plot.
        """
        light, dark = self._name(f"{name}.png"), self._name(f"{name}-dark.png")
        plots.save(draw, self.folder / light, plots.LIGHT, size)
        plots.save(draw, self.folder / dark, plots.DARK, size)
        return Figure(light, alt, caption, dark, round(INCH * size[0]), round(INCH * size[1]))

    def tile(self, name: str, pixels: np.ndarray, *, alt: str, label: str = "", detail: str = "") -> Tile:
        """Write a small RGB picture [H,W,3] in [0,1], with each pixel enlarged."""
        file = self._name(f"{name}.png")
        picture = Image.fromarray(_bytes(pixels))
        factor = max(1, round(TILE / max(picture.size)))
        picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(
            self.folder / file, optimize=True
        )
        return Tile(file, alt, label, detail)

    def picture(self, name: str, pixels: np.ndarray) -> str:
        """Write an RGB or RGBA picture [H,W,C] in [0,1] in its own size. Return the file's name, for a Figure."""
        file = self._name(f"{name}.png")
        Image.fromarray(_bytes(pixels)).save(self.folder / file, optimize=True)
        return file

    def strip(self, name: str, images: Sequence[np.ndarray], *, alt: str, gap: int = 8) -> Tile:
        """Write pictures [H,W,3] in [0,1] of one size as a row, with `gap` transparent pixels between them."""
        file = self._name(f"{name}.png")
        height, width = images[0].shape[:2]
        sheet = np.zeros((height, len(images) * (width + gap) - gap, 4), np.uint8)
        for number, pixels in enumerate(images):
            left = number * (width + gap)
            sheet[:, left : left + width, :3] = _bytes(pixels)
            sheet[:, left : left + width, 3] = 255
        Image.fromarray(sheet).save(self.folder / file, optimize=True)
        return Tile(file, alt)

    def _name(self, file: str) -> str:
        file = self.prefix + file
        if file in self._taken:
            raise ValueError(f"two pictures of the report are called {file}; every name must differ")
        self._taken.add(file)
        return file


def _bytes(pixels: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
