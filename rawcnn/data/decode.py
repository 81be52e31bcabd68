"""Decode image files to uint8 RGB by Pillow, many at a time.

Every fault of a file becomes one ValueError that names the file and says what to do.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from rawcnn.files.errors import one_line
from rawcnn.files.progress import Progress

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
PIXELS = 2**26  # of one image at most: 192 MiB decoded. A small file may claim any number
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")  # recognized by content, whatever the file's name


@dataclass(frozen=True)
class Item:
    """One image that is not decoded yet.

    Attributes:
        split: The split that it belongs to: "train", "test", "validation" or "all".
        name: Its name in messages.
        label: The number of its class.
        source: A file; pixels, uint8 [H,W] or [H,W,3]; or a function that returns the bytes of a file.
        remedy: What a message advises if it cannot be read.
    """

    split: str
    name: str
    label: int
    source: Path | np.ndarray | Callable[[], bytes]
    remedy: str = "repair or remove it, or leave out all such files with --skip-unreadable"


def header(item: Item) -> tuple[int, int]:
    """Return height and width in pixels, without decoding."""
    with open_image(item) as image:
        return image.height, image.width


def check(item: Item) -> None:
    """Decode all of an image at the least cost that its format allows, to find damage."""
    with open_image(item) as image:
        image.draft("RGB", (1, 1))  # decodes a JPEG at an eighth of its size
        image.load()


def read(item: Item, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode to uint8 [H,W,3]; with `size` (height, width), scale to cover it and crop at the center."""
    with open_image(item) as image:
        rgb = to_rgb(image)
    if size and rgb.size != size[::-1]:  # Pillow's is (width, height)
        rgb = ImageOps.fit(rgb, size[::-1], Image.Resampling.BILINEAR)  # which averages when it shrinks
    return np.asarray(rgb)


def stored(item: Item) -> bytes:
    """Return the stored bytes: those of a file, or of the pixels."""
    if isinstance(item.source, Path):
        return item.source.read_bytes()
    return item.source.tobytes() if isinstance(item.source, np.ndarray) else item.source()


def each(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    skipped: list[str] | None = None,
    progress: Progress | None = None,
    ahead: int = 256,
) -> Iterator[tuple[Item, Any]]:
    """Yield (item, function(item)) in order, computed by a pool of threads; decoders release the interpreter lock.

    Args:
        function: What to compute of each item.
        items: The items.
        skipped: Receives the names of unreadable images, which are left out; None raises an error instead.
        progress: Called as progress(done, total).
        ahead: The largest number of results that wait to be taken, which bounds the memory.

    Raises:
        ValueError: An image cannot be read, and `skipped` is None.
    """

    def attempt(item: Item) -> tuple[Any, Exception | None]:
        try:
            return function(item), None
        except Exception as error:  # decoders raise many kinds for damaged files
            return None, error

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), ahead):
            chunk = items[start : start + ahead]
            results = zip(chunk, pool.map(attempt, chunk), strict=True)
            for done, (item, (result, error)) in enumerate(results, start + 1):
                if error is None:
                    yield item, result
                elif skipped is None:
                    raise unreadable(item, error) from error
                else:
                    skipped.append(item.name)
                if progress:
                    progress(done, len(items))


def unreadable(item: Item, error: Exception) -> ValueError:
    """Return the error for an image that cannot be read."""
    name = item.source if isinstance(item.source, Path) else item.name
    return ValueError(f"{name} cannot be read as an image ({one_line(error)}); {item.remedy}")


def open_image(item: Item) -> Image.Image:
    """Open an image and read its header, but not its pixels. Raises ValueError for more than PIXELS pixels."""
    source = item.source
    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    image = Image.open(source if isinstance(source, Path) else io.BytesIO(source()), formats=FORMATS)
    if image.width * image.height > PIXELS:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels; expected {PIXELS:,} at most")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert the first frame to RGB from gray of 8 or 16 bits, a palette or CMYK; transparent pixels become white."""
    if image.mode.startswith("I"):  # 16-bit gray: Pillow's own conversion would clip values above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image.convert("RGBA"))
    return image.convert("RGB")
