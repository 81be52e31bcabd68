"""Image files of all kinds, complete and damaged: read correctly or rejected in one line, in bounded memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.harness.timing import resident
from rawcnn.data.decode import FORMATS, Item, check, each, header, read

SIZES = ((1, 1), (7, 5), (64, 48))
PEAK = 3 * 2**27  # largest increase of memory in bytes: two copies of the largest image


@contextmanager
def bounded() -> Iterator[None]:
    """Assert that the process grows by at most `PEAK`, including the decoders, if the system reports it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
        before = resident("VmRSS")
    except OSError:
        yield
        return
    yield
    assert resident("VmHWM") - before < PEAK


def test_memory_is_seen_that_is_none_of_pythons():
    """The bound is effective: the memory of an image in Pillow is counted."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells")
    with pytest.raises(AssertionError), bounded():
        Image.new("RGB", (16_000, 16_000), "white").load()


def pixels(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Noise on large patches, which compress well but not trivially."""
    generator = np.random.default_rng(seed)
    shape = (size[1], size[0])
    if mode == "F":
        return Image.fromarray(generator.random(shape, np.float32))
    if mode in ("I;16", "I"):
        return Image.fromarray(generator.integers(0, 2**16, shape).astype(np.uint16 if mode == "I;16" else np.int32))
    bands = {"L": 1, "1": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    values = generator.integers(0, 256, (*shape, bands), np.uint8)
    if mode in ("1", "P"):
        return Image.fromarray(values[..., 0]).convert(mode)
    return Image.fromarray(values[..., 0] if bands == 1 else values, mode)


KINDS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("L", "P", "RGB"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"),
    "PPM": ("1", "L", "RGB", "I"),
    "JPEG2000": ("L", "RGB", "RGBA", "I;16"),
    "PCX": ("1", "L", "P", "RGB"),
    "DIB": ("L", "RGB"),
    "SGI": ("L", "RGB", "RGBA"),
    "AVIF": ("RGB", "RGBA"),
}
KINDS = {kind: modes for kind, modes in KINDS.items() if kind in FORMATS}
LOSSY = ("JPEG", "WEBP", "AVIF")
WHOLE = [(kind, mode, size) for kind, modes in KINDS.items() for mode in modes for size in SIZES]


def encoded(kind: str, mode: str, size: tuple[int, int] = (64, 48), seed: int = 0, **options) -> bytes:
    buffer = io.BytesIO()
    pixels(mode, size, seed).save(buffer, kind, **options)
    return buffer.getvalue()


def outcome(content: bytes) -> list[np.ndarray | str]:
    """Return the results of header, check and read for these bytes: a value, or the one-line error."""
    found: list[np.ndarray | str] = []
    for function in (header, check, partial(read, size=(8, 8)), read):
        try:
            ((_, result),) = each(function, [Item("train", "the file", 0, lambda: content)])
            found.append(result)
        except ValueError as error:
            line = str(error)
            assert "\n" not in line and line.startswith("the file cannot be read as an image (") and len(line) < 500
            assert "--skip-unreadable" in line
            found.append(line)
    size, checked, small, image = found
    assert isinstance(checked, str) == isinstance(small, str) == isinstance(image, str), "check and read agree"
    if not isinstance(image, str):
        assert image.dtype == small.dtype == np.uint8 and small.shape == (8, 8, 3)
        assert image.shape == (*size, 3), "the header's size is that of the pixels"
    return found


@pytest.mark.parametrize("kind, mode, size", WHOLE)
def test_whole_files_are_read(kind, mode, size):
    (height, width), _, small, image = outcome(encoded(kind, mode, size))
    assert (width, height) == size and small.shape == (8, 8, 3) and image.shape == (height, width, 3)
    if kind not in LOSSY and mode in ("1", "L", "RGB") and (kind, mode) != ("GIF", "RGB"):
        np.testing.assert_array_equal(image, np.asarray(pixels(mode, size, 0).convert("RGB")))


def test_sixteen_bits_keep_their_order():
    image = outcome(encoded("PNG", "I;16"))[3]
    assert np.array_equal(image[..., 0], np.asarray(pixels("I;16", (64, 48), 0)) >> 8)


def test_what_is_transparent_is_white():
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGBA", (8, 8), (200, 10, 10, 0)).save(buffer, kind, lossless=True)
        assert outcome(buffer.getvalue())[3].min() == 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_what_moves_the_first_frame_counts(kind):
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "lime", "blue")]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=10)
    image = outcome(buffer.getvalue())[3]
    assert image.shape == (9, 9, 3) and image[..., 0].mean() > 200 > 60 > image[..., 2].mean()


@pytest.mark.parametrize("kind, mode", [(kind, mode) for kind, modes in KINDS.items() for mode in modes])
@pytest.mark.parametrize("seed", range(12))
def test_truncated(kind, mode, seed):
    """Cut at any byte, also the last: the file is refused, or all pixels are there, as they are without its end."""
    content = encoded(kind, mode)
    length = int(np.random.default_rng(seed).integers(0, len(content)))
    *_, image = outcome(content[:length])
    if not isinstance(image, str):
        np.testing.assert_array_equal(image, outcome(content)[3])
    elif length < 8:
        assert "none of the formats" in image or "truncated" in image


@pytest.mark.parametrize("kind, mode", [(kind, mode) for kind, modes in KINDS.items() for mode in modes])
@pytest.mark.parametrize("seed", range(24))
def test_bytes_that_were_changed(kind, mode, seed):
    """Change bytes, more often in the header than after it: sizes, depths, tables, chunks.

    The checksums of a PNG find all of it; in other formats, other pixels may be in a valid file.
    """
    whole, generator = encoded(kind, mode), np.random.default_rng([seed, 1])
    content = bytearray(whole)
    for _ in range(int(generator.integers(1, 6))):
        place = int(min(generator.integers(0, len(content)), generator.integers(0, len(content))))
        content[place] = int(generator.integers(0, 256))
    with bounded():
        *_, image = outcome(bytes(content))
    if kind == "PNG" and not isinstance(image, str):
        np.testing.assert_array_equal(image, outcome(whole)[3])


@pytest.mark.parametrize("seed", range(60))
def test_bytes_of_nothing(seed):
    generator = np.random.default_rng([seed, 2])
    start = (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"RIFF\0\0\0\0WEBP")[seed % 6]
    found = outcome(start + generator.bytes(int(generator.integers(0, 400))))
    assert all(isinstance(line, str) for line in found[1:])


@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_long_and_thin(size, kind):
    (height, width), _, small, image = outcome(encoded(kind, "RGB", size))
    assert (width, height) == size and small.shape == (8, 8, 3) and image.shape == (height, width, 3)


def png(width: int, height: int, rows: bytes) -> bytes:
    """An 8-bit gray PNG whose header claims this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [12_000, 20_000, 60_000, 2**31 - 1])
def test_bombs(side):
    """Files of at most a few hundred kilobytes that decompress to gigabytes."""
    rows = zlib.compress(bytes(min(side, 20_000) * 1000), 9)
    with bounded():
        found = outcome(png(side, side, rows))
    assert all(isinstance(line, str) for line in found)
    assert "pixels" in found[0] or side > 2**30


def test_other_formats_are_refused():
    """Formats that need interpreters or large decoders are rejected, whatever the file's name."""
    for kind in sorted({"ICO", "TGA", "EPS", "PDF", "DDS"} - {*FORMATS}):
        buffer = io.BytesIO()
        pixels("RGB", (16, 16), 0).save(buffer, kind)
        assert all("none of the formats JPEG, PNG" in line for line in outcome(buffer.getvalue()))
