"""Image files in, uint8 RGB out, by Pillow, many at a time.

Whatever is wrong with a file ends in one ValueError that names it and says how to go on without it.
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
PIXELS = 2**26  # of an image: 192 MiB decoded; a small file may claim any number
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")  # of the content: a file's name may lie


@dataclass(frozen=True)
class Item:
    """One image that is not decoded yet."""

    split: str  # "train" or "test"
    name: str  # as messages call it
    label: int
    source: Path | np.ndarray | Callable[[], bytes]
    """A file; pixels, uint8 [H,W] or [H,W,3]; or what gives the bytes of a file."""
    remedy: str = "repair or remove it, or leave out all such files with --skip-unreadable"


def header(item: Item) -> tuple[int, int]:
    """Height and width, without decoding."""
    with open_image(item) as image:
        return image.height, image.width


def check(item: Item) -> None:
    """Decode all of an image, as cheaply as its format allows."""
    with open_image(item) as image:
        image.draft("RGB", (1, 1))  # a JPEG at an eighth of its size
        image.load()


def read(item: Item, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode to uint8 [H,W,3], scaled to cover `size` and cropped in the middle; without one, as it is."""
    with open_image(item) as image:
        rgb = to_rgb(image)
    if size and rgb.size != size[::-1]:  # Pillow's is (width, height)
        rgb = ImageOps.fit(rgb, size[::-1], Image.Resampling.BILINEAR)  # shrinking, it averages
    return np.asarray(rgb)


def stored(item: Item) -> bytes:
    """As it lies there: a file's bytes, or pixels."""
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
    """(item, function(item)) in order, by a pool of threads: decoders let go of the interpreter lock.

    Up to `ahead` results wait to be taken: a bounded queue, however long the list.
    The first unreadable image raises ValueError; given a list `skipped`, its name goes there instead.
    """

    def attempt(item: Item) -> tuple[Any, Exception | None]:
        try:
            return function(item), None
        except Exception as error:  # over broken bytes decoders raise anything
            return None, error

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(items), ahead):
            some = items[start : start + ahead]
            results = zip(some, pool.map(attempt, some), strict=True)
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
    """The one sentence about a broken image."""
    name = item.source if isinstance(item.source, Path) else item.name
    return ValueError(f"{name} cannot be read as an image ({one_line(error)}); {item.remedy}")


def open_image(item: Item) -> Image.Image:
    """Its header is read; the pixels are not."""
    source = item.source
    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    image = Image.open(source if isinstance(source, Path) else io.BytesIO(source()), formats=FORMATS)
    if image.width * image.height > PIXELS:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels; expected {PIXELS:,} at most")
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Grey of 8 or 16 bits, palettes, CMYK become RGB; what is transparent shows white. The first frame."""
    if image.mode.startswith("I"):  # 16-bit grey, of which Pillow's conversion would clip all above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert("RGB")
