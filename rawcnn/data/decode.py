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
from PIL import Image, ImageOps, UnidentifiedImageError, features

from rawcnn.data.foreign import START, what_it_is
from rawcnn.data.pixels import to_rgb, upright_size
from rawcnn.files.errors import one_line
from rawcnn.files.progress import Progress

PIXELS = 2**26  # of one image at most: 192 MiB decoded. A small file may claim any number
# Formats that are recognized by content, whatever the file's name, and the endings by which files are found in folders.
# Left out are those that need other programs or hide a second size. TGA, which has no mark, is recognized by `_is_tga`.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
    "TGA": (".tga",),
}
MODULES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # parts that Pillow may lack
for name, module in MODULES.items():
    if module not in features.get_supported():
        del FORMATS[name]
SUFFIXES = tuple(ending for endings in FORMATS.values() for ending in endings)
MARKED = tuple(name for name in FORMATS if name != "TGA")


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
    """Return height and width of the upright image in pixels, where possible without decoding."""
    with open_image(item) as image:
        return upright_size(image)


def check(item: Item) -> None:
    """Decode all of an image at the least cost that its format allows, to find damage."""
    with open_image(item) as image:
        image.draft("RGB", (1, 1))  # decodes a JPEG at an eighth of its size
        image.load()
        if image.mode not in ("1", "L", "P", "RGB"):
            to_rgb(image)  # its levels may be out of range, or its colors unknown


def read(item: Item, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode to uint8 [H,W,3], upright; with `size` (height, width), scale to cover it and crop at the center."""
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
    """Open an image and read its header, but not its pixels.

    Raises:
        ValueError: It is none of FORMATS, or has more than PIXELS pixels.
    """
    source = item.source
    if isinstance(source, np.ndarray):
        return Image.fromarray(source)
    file = source if isinstance(source, Path) else io.BytesIO(source())
    try:
        start = _beginning(file)
        image = Image.open(file, formats=("TGA",) if _is_tga(start) else MARKED)
    except UnidentifiedImageError as error:
        what, formats = what_it_is(start), f"none of the formats {', '.join(FORMATS)}"
        raise ValueError(f"{what}; it is {formats}" if what else f"it is damaged, or {formats}") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)  # Pillow's own limit
        raise ValueError(f"more than {most:,} pixels; expected {PIXELS:,} at most") from error
    if image.width * image.height > PIXELS:
        image.close()
        raise ValueError(f"{image.width}×{image.height} pixels; expected {PIXELS:,} at most")
    return image


def _is_tga(start: bytes) -> bool:
    """Return whether a file begins as a TGA file, which has no mark: kinds and sizes that are possible."""
    if len(start) < 18 or start[1] > 1 or start[2] not in (1, 2, 3, 9, 10, 11) or start[17] & 0xC0:
        return False
    has_map, is_mapped, depth = start[1] == 1, start[2] in (1, 9), start[16]
    sides = min(int.from_bytes(start[place : place + 2], "little") for place in (12, 14))
    possible = (8,) if start[2] in (1, 3, 9, 11) else (16, 24, 32)
    return has_map == is_mapped and (has_map or start[3:8] == bytes(5)) and depth in possible and sides > 0


def _beginning(file: Path | io.BytesIO) -> bytes:
    """Return the first bytes of a file."""
    if isinstance(file, Path):
        with file.open("rb") as content:
            return content.read(START)
    return file.getvalue()[:START]
