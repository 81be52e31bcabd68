"""Convert what Pillow decodes to RGB of 8 bits: upright, from any depth, on white."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import ExifTags, Image

Turn = Image.Transpose
UPRIGHT = {  # EXIF orientation → what makes the image upright, as ImageOps.exif_transpose; 1 is upright already
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none or if it cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged metadata do not make the pixels unreadable
        return 1
    return found if isinstance(found, int) and found in UPRIGHT else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the height and width of the upright image.

    The pixels of a PNG that is not square are decoded for this, because its orientation may follow them.
    """
    if image.width == image.height or orientation(image) < 5:
        return image.height, image.width
    if image.format == "TIFF":  # Pillow makes it upright itself: when it is decoded, or partly before
        image.load()
        return image.height, image.width
    return image.width, image.height


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert the first frame of an image that was opened to upright RGB of 8 bits.

    Levels of 16 bits keep their upper 8 bits. Floating-point levels, and 32-bit integers in a TIFF, have the first of
    these ranges that holds all of them: 0 to 1 (floating point only), 0 to 255, 0 to 65535.

    Raises:
        ValueError: Levels are not finite, or outside all of these ranges.
    """
    hidden = _color_key(image)
    image.load()
    turn = UPRIGHT.get(orientation(image))
    if image.mode.startswith(("I", "F")):
        levels = _grey_levels(image)  # uint8 [H,W]
        rgb = Image.fromarray(levels).convert("RGB")
    elif hidden is None and image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        rgb = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    else:
        image.info.pop("transparency", None)  # it is in `hidden`
        rgb = image.convert("RGB")
    if hidden is not None:
        rgb.paste("white", mask=Image.fromarray(hidden))
    return rgb if turn is None else rgb.transpose(turn)


def _color_key(image: Any) -> np.ndarray | None:
    """Where a PNG of 1, 2, 4 or 16 bits per channel has its transparent color: bool [H,W]; None without one.

    Pillow compares the color in the file with levels that are already scaled to 8 bits.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None or not image.tile:
        return None
    stored = image.tile[0][3]  # how the pixels are stored in the file, which Pillow forgets as it decodes them
    if stored in ("L;2", "L;4"):
        return np.asarray(image) == key * (85 if stored == "L;2" else 17)
    if stored == "1":
        return np.asarray(image) == bool(key)
    if image.mode.startswith("I"):
        return np.asarray(image) == key
    if stored == "RGB;16B":
        low, high = _low_bytes(image), np.asarray(image)
        red, green, blue = (high[..., c].astype(np.uint16) << 8 | low[..., c] for c in range(3))
        return (red == key[0]) & (green == key[1]) & (blue == key[2])
    return None


def _low_bytes(image: Any) -> np.ndarray:
    """The lower bytes of a 16-bit RGB PNG, of which Pillow decodes the upper ones: uint8 [H,W,3]."""
    image.fp.seek(0)
    again: Any = Image.open(image.fp, formats=("PNG",))
    again.tile = [(*again.tile[0][:3], "RGB;16L")]  # as if the bytes were in the other order
    return np.array(again)


def _grey_levels(image: Image.Image) -> np.ndarray:
    """The levels of grey of 16 or 32 bits, scaled to uint8 [H,W]."""
    levels, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        if tags.get(ExifTags.Base.BitsPerSample) == (12,):
            levels = levels << 4
        grey = (levels >> 8).astype(np.uint8)
    else:
        white = _white(levels) if image.format == "TIFF" or image.mode == "F" else 65535
        if white == 65535:
            levels = levels.astype(np.uint16) >> 8
        elif image.mode == "F":
            levels = levels * np.float32(255 / white) + np.float32(0.5)
        grey = levels.astype(np.uint8)
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == 0 and image.mode[0] in "IF"  # 0 is white
    return 255 - grey if inverted else grey


def _white(levels: np.ndarray) -> int:
    """The largest level of the range that holds all levels."""
    low, high = float(levels.min()), float(levels.max())  # NaN if one is NaN
    ranges = (1, 255, 65535) if levels.dtype.kind == "f" else (255, 65535)
    white = next((white for white in ranges if low >= 0 and high <= white), None)
    if white is None:
        expected = ", ".join(f"0 to {white}" for white in ranges)
        raise ValueError(f"levels from {low:g} to {high:g}; expected one of the ranges {expected}")
    return white
