"""Pictures as arrays: color scales, tiles, enlarging, boxes, and PNG files.

A picture is a float array [H,W,3], RGB in [0,1].
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import ceil, inf, sqrt
from pathlib import Path

import numpy as np
from PIL import Image

from kernels.geometry import is_integer
from rawcnn.files.atomic import write_atomic
from rawcnn.nn.arguments import Size, image_size, listed, number_array, real, whole_number

RED = np.array([0.70, 0.02, 0.15], np.float32)  # of +1; dark, so that lightness varies between it and white
BLUE = np.array([0.02, 0.19, 0.55], np.float32)  # of −1


def picture(pixels) -> np.ndarray:
    """Return gray or RGB pixels as a picture.

    Args:
        pixels: Gray [H,W] or [H,W,1], or RGB [H,W,3]; values outside [0,1] are clipped.

    Returns:
        float32 [H,W,3].

    Raises:
        ValueError: For another shape, and for values that are not finite.
    """
    pixels = number_array("the picture", pixels, "numbers [H,W] or [H,W,3]").astype(np.float32)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"the picture has shape {pixels.shape}; expected [H,W] or [H,W,3]")
    if not np.isfinite(pixels).all():
        raise ValueError("the picture has values that are not finite; expected numbers in [0,1]")
    return np.clip(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), 0, 1)


def grid(images: Sequence, columns: int | None = None, gap: int = 1, background: float = 1.0) -> np.ndarray:
    """Arrange pictures of one size as tiles, row by row.

    Args:
        images: The pictures, all [h,w,3] or [h,w].
        columns: Tiles per row; by default as many as there are rows, or a few more.
        gap: Pixels between and around the tiles.
        background: Gray value of the gaps.

    Returns:
        A picture [gap + rows·(h + gap), gap + columns·(w + gap), 3].

    Raises:
        ValueError: For no pictures, pictures of different sizes, no columns or a negative gap.
    """
    tiles = [picture(image) for image in images]
    if not tiles or len({tile.shape for tile in tiles}) > 1:
        sizes = sorted({tile.shape[:2] for tile in tiles})
        raise ValueError(f"cannot tile {len(tiles)} pictures of sizes {sizes}; expected one or more of one size")
    columns = ceil(sqrt(len(tiles))) if columns is None else whole_number("columns", columns)
    gap, background = whole_number("gap", gap, least=0), real("background", background)
    columns, (height, width, _) = min(columns, len(tiles)), tiles[0].shape
    rows = ceil(len(tiles) / columns)
    shape = (gap + rows * (height + gap), gap + columns * (width + gap), 3)
    sheet = np.full(shape, background, np.float32)
    for index, tile in enumerate(tiles):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def normalize(values: np.ndarray) -> np.ndarray:
    """Stretch values to [0,1]: the smallest becomes 0, the largest 1. Constant values become 0.

    Args:
        values: Any shape.

    Returns:
        The same shape.

    Raises:
        ValueError: For values that are not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("there are values that are not finite; expected finite ones")
    low, high = np.min(values), np.max(values)
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def enlarge(image, scale: int) -> np.ndarray:
    """Enlarge a picture: every pixel becomes a square of `scale` pixels.

    Args:
        image: [H,W,3] in [0,1].
        scale: A whole number, 1 or more.

    Returns:
        [scale·H,scale·W,3].

    Raises:
        ValueError: For a scale that is not a whole number from 1.
    """
    scale = whole_number("scale", scale)
    return picture(image).repeat(scale, axis=0).repeat(scale, axis=1)


def scale_to(image: np.ndarray, side: int) -> int:
    """Return the whole number that brings the longer side of an image [H,W,3] nearest to `side` pixels; at least 1."""
    return max(1, round(side / max(image.shape[:2])))


def fit(image, size: Size, background: float = 1.0) -> np.ndarray:
    """Place a picture in the middle of a frame: enlarged by a whole factor, or averaged to a smaller size.

    Args:
        image: [H,W,3] or [H,W].
        size: The side of a square frame in pixels, or (height, width).
        background: Gray value of the rest of the frame.

    Returns:
        A picture [height,width,3].

    Raises:
        ValueError: For another shape, a size that is not whole numbers from 1, and values that are not finite.
    """
    image, (height, width), background = picture(image), image_size(size), real("background", background)
    factor = min(height / image.shape[0], width / image.shape[1])
    if factor >= 1:
        image = enlarge(image, int(factor))
    else:
        rows, columns = (max(1, round(n * factor)) for n in image.shape[:2])
        small = Image.fromarray(_bytes(image)).resize((columns, rows), Image.Resampling.BOX)
        image = np.asarray(small, np.float32) / 255
    frame = np.full((height, width, 3), background, np.float32)
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    frame[top : top + image.shape[0], left : left + image.shape[1]] = image
    return frame


def draw_box(image, box: tuple[int, int, int, int], color=(1.0, 0.0, 0.0), width: int = 1) -> np.ndarray:
    """Draw the outline of a box inside its bounds, with a white outline around it.

    Args:
        image: [H,W,3] or [H,W].
        box: (top, left, bottom, right) in pixels; bottom and right are exclusive.
        color: RGB in [0,1].
        width: The width of each outline, in pixels.

    Returns:
        A picture [H,W,3].

    Raises:
        ValueError: for a box that is no four whole numbers, and for a width below 1.
    """
    image, edges, width = picture(image).copy(), listed(box), whole_number("width", width)
    if len(edges) != 4 or not all(map(is_integer, edges)):
        raise ValueError(f"box is {box!r}; expected (top, left, bottom, right), whole numbers of pixels")
    top, left, bottom, right = map(int, edges)
    inside = image[top:bottom, left:right]
    middle = inside[width:-width, width:-width].copy()
    image[max(top - width, 0) : bottom + width, max(left - width, 0) : right + width] = 1
    inside[:] = color
    inside[width:-width, width:-width] = middle
    return image


def diverging(values, times: float | None = None) -> np.ndarray:
    """Show signed values as a picture.

    Args:
        values: [H,W], shown red above 0, white at 0 and blue below 0; or [H,W,3], such as the noise of an attack,
            where each color channel is brighter or darker than gray, which is 0.
        times: Factor before the color scale, which ends at −1 and 1; by default the largest magnitude becomes 1.

    Returns:
        A picture [H,W,3].

    Raises:
        ValueError: for another shape, and for values that are not finite.
    """
    values = number_array("values", values, "numbers [H,W] or [H,W,3]").astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError("there are values that are not finite; expected finite ones")
    largest = np.max(np.abs(values), initial=0)
    if times is None:
        times = 1 / largest if largest > 0 else 1.0
    times = real("times", times, "positive or negative", least=-inf)
    scaled = np.clip(times * values, -1, 1)
    if values.ndim == 3:
        return picture(0.5 + 0.5 * scaled)
    amount = np.abs(scaled)[..., None]  # [H,W,1]
    color = np.where(scaled[..., None] > 0, RED, BLUE)  # [H,W,3]
    return picture(1 - amount * (1 - color))


def save_png(path: str | Path, image, scale: int = 1) -> Path:
    """Write a picture as a PNG file, atomically. The folder is created if necessary.

    Args:
        path: The path of the file.
        image: [H,W,3] or [H,W].
        scale: Whole factor by which the picture is enlarged.

    Returns:
        The path.
    """
    content = BytesIO()
    Image.fromarray(_bytes(enlarge(image, scale))).save(content, format="PNG", optimize=True)
    write_atomic(path, content.getvalue())
    return Path(path)


def _bytes(image: np.ndarray) -> np.ndarray:
    """A picture as bytes, uint8 [H,W,3]."""
    return np.rint(picture(image) * 255).astype(np.uint8)
