"""Every kind of image becomes upright RGB of 8 bits, compared with pixels computed by hand or with Pillow's."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from rawcnn import data
from rawcnn.data.decode import FORMATS, Item, check, header, read
from rawcnn.data.records import pack
from rawcnn.evaluation.predict import read_image
from tests.rawcnn.folders import save

WHITE = (255, 255, 255)


def read_bytes(content: bytes) -> np.ndarray:
    item = Item("train", "image", 0, lambda: content)
    check(item)
    image = read(item)
    assert header(item) == image.shape[:2] and image.dtype == np.uint8
    return image


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# PNG by hand -----------------------------------------------------------------------------------------------------


def png(color: int, depth: int, rows: list[bytes], width: int, transparent: bytes = b"", late: bytes = b"") -> bytes:
    """A PNG file of these rows; `transparent` is the content of tRNS, `late` that of an eXIf chunk after the pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(12))) if color == 3 else b""
    key = chunk(b"tRNS", transparent) if transparent else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    exif = chunk(b"eXIf", late) if late else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + key + pixels + exif + chunk(b"IEND", b"")


GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


@pytest.mark.parametrize("level, expected", [(0, 0), (255, 0), (256, 1), (40_000, 156), (65_535, 255)])
def test_grey_of_16_bits(level, expected):
    content = png(GREY, 16, [struct.pack(">HH", level, 0)], 2)
    assert read_bytes(content).tolist() == [[[expected] * 3, [0] * 3]]


def test_a_transparent_level_of_16_bits_is_white():
    content = png(GREY, 16, [struct.pack(">HHH", 10, 266, 50_000)], 3, transparent=struct.pack(">H", 10))
    assert read_bytes(content).tolist() == [[[255] * 3, [1] * 3, [195] * 3]]  # 266 differs in its upper byte alone


@pytest.mark.parametrize("depth, row, expected", [
    (1, 0b01000000, (0, 255)), (2, 0b01110000, (85, 255)), (4, 0x27, (34, 119)), (8, None, (2, 7)),
])  # fmt: skip
@pytest.mark.parametrize("hidden", [None, 0, 1])
def test_grey_of_few_bits_with_a_transparent_level(depth, row, expected, hidden):
    stored = [level * (2**depth - 1) // 255 for level in expected]
    content = png(GREY, depth, [bytes([2, 7]) if row is None else bytes([row])], 2,
                  transparent=b"" if hidden is None else struct.pack(">H", stored[hidden]))  # fmt: skip
    levels = [255 if hidden == k else level for k, level in enumerate(expected)]
    assert read_bytes(content).tolist() == [[[level] * 3 for level in levels]]


def test_a_transparent_colour_of_8_bits():
    content = png(RGB, 8, [bytes([1, 2, 3, 1, 2, 4])], 2, transparent=struct.pack(">HHH", 1, 2, 3))
    assert read_bytes(content).tolist() == [[[255, 255, 255], [1, 2, 4]]]


def test_a_transparent_colour_of_16_bits():
    """All 16 bits count: the second pixel differs from the transparent colour in its last bit alone."""
    colors = [(1000, 2000, 3000), (1000, 2000, 3001), (60_000, 0, 256)]
    row = b"".join(struct.pack(">HHH", *color) for color in colors)
    expected = [[255, 255, 255], [3, 7, 11], [234, 0, 1]]
    content = png(RGB, 16, [row], 3, transparent=struct.pack(">HHH", *colors[0]))
    assert read_bytes(content).tolist() == [expected]
    assert read_bytes(png(RGB, 16, [row], 3)).tolist() == [[[3, 7, 11], *expected[1:]]]


def test_a_palette_with_levels_of_transparency():
    content = png(PALETTE, 2, [bytes([0b00011011])], 4, transparent=bytes([0, 255, 128]))
    over_white = [round(c * 128 / 255 + 127) for c in (6, 7, 8)]
    found = read_bytes(content)
    assert found[0, [0, 1, 3]].tolist() == [[255] * 3, [3, 4, 5], [9, 10, 11]]
    np.testing.assert_allclose(found[0, 2], over_white, atol=1)
    one = png(PALETTE, 2, [bytes([0b00011011])], 4, transparent=bytes([255, 0]))  # a single transparent entry
    assert read_bytes(one)[0].tolist() == [[0, 1, 2], [255] * 3, [6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("color, pixels, expected", [
    (GREY_ALPHA, [(50, 255), (50, 0)], [(50, 50, 50), WHITE]),
    (RGBA, [(10, 20, 30, 255), (10, 20, 30, 0)], [(10, 20, 30), WHITE]),
    (RGBA, [(10, 20, 30, 51)], [(206, 208, 210)]),  # a fifth of the colour on four fifths of white
])  # fmt: skip
def test_transparency_on_white(depth, color, pixels, expected):
    row = b"".join(bytes([v] * (depth // 8)) for pixel in pixels for v in pixel)
    np.testing.assert_allclose(read_bytes(png(color, depth, [row], len(pixels)))[0], expected, atol=1)


# Other formats ---------------------------------------------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)
COLOR = Image.fromarray(NOISE[..., :3])


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_color_of_every_format(kind):
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(kind, {})
    smooth = Image.fromarray((np.indices((6, 5)).sum(0)[..., None] * (3, 2, 1) + 100).astype(np.uint8))
    found = read_bytes(saved(smooth, kind, **options))
    with Image.open(io.BytesIO(saved(smooth, kind, **options))) as image:
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
    if kind not in ("JPEG", "GIF"):
        np.testing.assert_allclose(found, np.asarray(smooth), atol=3 if kind == "AVIF" else 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG2000", "SGI"])
def test_alpha_of_every_format(kind):
    values = np.full((8, 3, 4), (10, 20, 30, 0), np.uint8)
    values[4:, :, 3] = 255
    found = read_bytes(saved(Image.fromarray(values), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert (found[:4] == 255).all() and (found[4:] == (10, 20, 30)).all()


def test_alpha_of_bmp_with_a_mask():
    """A BITMAPV4HEADER with masks of red, green, blue and alpha."""
    rows = bytes([30, 20, 10, 255, 30, 20, 10, 0])  # blue, green, red, alpha
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, len(rows), 0, 0, 0, 0) + masks + b"BGRs" + bytes(48)
    content = b"BM" + struct.pack("<IHHI", 14 + 108 + len(rows), 0, 0, 14 + 108) + head + rows
    assert read_bytes(content).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_transparent_gif():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    content = saved(image, "GIF", transparency=1)
    assert read_bytes(content).tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_cmyk_jpeg():
    content = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    np.testing.assert_allclose(read_bytes(content), np.broadcast_to((254, 0, 0), (8, 8, 3)), atol=2)


@pytest.mark.parametrize(
    "maximum, levels, expected", [(65_535, (0, 256, 65_535), (0, 1, 255)), (1023, (0, 512, 1023), (0, 128, 255))]
)
def test_deep_pgm(maximum, levels, expected):
    content = b"P5 3 1 %d\n" % maximum + struct.pack(">HHH", *levels)
    assert read_bytes(content)[0, :, 0].tolist() == list(expected)


def test_pfm():
    content = b"Pf\n3 1\n-1.0\n" + struct.pack("<fff", 0, 0.5, 1)
    assert read_bytes(content)[0, :, 0].tolist() == [0, 128, 255]


def test_deep_jpeg2000():
    levels = np.array([[0, 256], [40_000, 65_535]], np.uint16)
    content = saved(Image.fromarray(levels), "JPEG2000")
    assert read_bytes(content)[..., 0].tolist() == [[0, 1], [156, 255]]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("levels, expected", [
    (np.array([[0, 256, 65_535]], np.uint16), [0, 1, 255]),
    (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
    (np.array([[0, 256, 65_535]], np.int32), [0, 1, 255]),
    (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
    (np.array([[0, 100.4, 255]], np.float32), [0, 100, 255]),
    (np.array([[0, 256, 65_535]], np.float32), [0, 1, 255]),
])  # fmt: skip
def test_deep_tiff(levels, expected, compression):
    content = saved(Image.fromarray(levels), "TIFF", compression=compression)
    assert read_bytes(content)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("level", [float("nan"), float("inf"), -0.1, 70_000])
def test_levels_without_a_range(tmp_path, level):
    file = tmp_path / "deep.tif"
    Image.fromarray(np.array([[0, level]], np.float32)).save(file)
    for read_it in (lambda: read(Item("train", "x", 0, file)), lambda: check(Item("train", "x", 0, file))):
        with pytest.raises(
            ValueError, match=r"levels from .* to .*; expected one of the ranges 0 to 1, 0 to 255, 0 to"
        ):
            read_it()


def test_tiff_in_which_zero_is_white():
    levels = Image.fromarray(np.array([[0, 65_535]], np.uint16))
    assert read_bytes(saved(levels, "TIFF", tiffinfo={262: 0}))[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_the_first_page_counts(kind):
    pages = [Image.new("RGB", (4, 4), color) for color in ("red", "lime")]
    content = saved(
        pages[0], kind, save_all=True, append_images=pages[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert (read_bytes(content) == (255, 0, 0)).all()


def test_formats_are_named_where_a_file_has_another(tmp_path):
    file = tmp_path / "photo.tif"
    file.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    expected = r"it is a HEIC photograph; convert it .* none of the formats JPEG, PNG, BMP, DIB, GIF, WEBP, TIFF, PPM"
    for read_it in (lambda: read_image(file, (8, 8)), lambda: read(Item("test", "x", 0, file))):
        with pytest.raises(ValueError, match=expected):
            read_it()


FOREIGN = {
    "empty": (b"", "it is empty"),
    "page": (b"<!DOCTYPE html><p>404", "it is a web page: the download failed; download it again"),
    "drawing": (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "it is an SVG drawing; convert it to PNG or JPEG"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "it is a Git LFS pointer, .*git lfs pull"),
    "photoshop": (b"8BPS\0\1" + bytes(30), "it is a Photoshop document; convert it"),
    "pdf": (b"%PDF-1.4", "it is a PDF or PostScript document"),
    "jxl": (b"\xff\x0a" + bytes(30), "it is a JPEG XL image"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(30), "it is a video"),
    "zip": (b"PK\3\4" + bytes(30), "it is an archive; unpack it"),
    "array": (b"\x93NUMPY\1\0", "it is an array of NumPy"),
    "pam": (b"P7\nWIDTH 1\nHEIGHT 1\n", "it is a PAM image"),
    "zeros": (bytes(100), "it holds only zeros; copy or download it again"),
    "text": (b"hello", "it is damaged, or"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_image_is_named(tmp_path, kind):
    content, message = FOREIGN[kind]
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=message + r".* none of the formats JPEG, .*, TGA"):
        read_image(tmp_path / "a.jpg", (8, 8))


def test_a_tiff_of_a_rare_kind():
    content = saved(Image.new("RGB", (2, 2)), "TIFF")
    rgb, unknown = (struct.pack("<HHII", 262, 3, 1, kind) for kind in (2, 99))
    assert rgb in content
    with pytest.raises(ValueError, match="it is a TIFF file, damaged or of a rare kind; convert it"):
        read_bytes(content.replace(rgb, unknown))


@pytest.mark.parametrize("mode, value, expected", [
    ("RGB", (10, 20, 30), (10, 20, 30)), ("L", 100, 100), ("RGBA", (10, 20, 30, 128), (132, 137, 142)), ("P", 0, 0),
])  # fmt: skip
@pytest.mark.parametrize("packed", [None, "tga_rle"])
@pytest.mark.parametrize("version", [1, 2])
def test_tga(mode, value, expected, packed, version):
    content = io.BytesIO()
    Image.new(mode, (6, 4), value).save(content, "TGA", compression=packed)
    stored = content.getvalue() if version == 2 else content.getvalue()[:-26]  # without the mark at the end
    assert (read_bytes(stored) == expected).all() and read_bytes(stored).shape == (4, 6, 3)


def test_an_image_that_claims_to_be_huge(tmp_path):
    content = bytearray(saved(Image.new("L", (1, 1)), "PNG"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ValueError, match=r"pixels; expected 67,108,864 at most"):
        read_bytes(bytes(content))


# Orientation -----------------------------------------------------------------------------------------------------


def turned(kind: str, orientation: int, image: Image.Image = COLOR, **options) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return saved(image, kind, exif=exif, **options)


LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}, "JPEG": {"quality": 100, "subsampling": 0}}
BY_HAND = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


@pytest.mark.parametrize("kind", [*LOSSLESS, "AVIF", "JPEG2000"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind, orientation):
    """As ImageOps.exif_transpose and, where the format is lossless, as turned by hand."""
    if kind not in FORMATS:
        pytest.skip(f"Pillow was built without {kind}")
    try:
        content = turned(kind, orientation, **LOSSLESS.get(kind, {}))
    except (TypeError, ValueError):
        pytest.skip(f"Pillow writes no EXIF into {kind}")
    found = read_bytes(content)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(found, expected)
    if kind in ("PNG", "WEBP", "TIFF"):
        np.testing.assert_array_equal(found, BY_HAND[orientation](NOISE[..., :3]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_after_the_pixels_of_a_png(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    rows = [row.tobytes() for row in NOISE[..., :3]]
    content = png(RGB, 8, rows, 5, late=exif.tobytes()[6:])
    np.testing.assert_array_equal(read_bytes(content), BY_HAND[orientation](NOISE[..., :3]))


def test_orientation_of_grey_and_transparent_images():
    levels = np.arange(6, dtype=np.uint16).reshape(2, 3) * 1000
    found = read_bytes(turned("PNG", 6, Image.fromarray(levels)))
    np.testing.assert_array_equal(found[..., 0], np.rot90(levels, -1) >> 8)
    found = read_bytes(turned("PNG", 8, Image.fromarray(NOISE // 128 * 255)))
    with Image.open(io.BytesIO(saved(Image.fromarray(NOISE // 128 * 255), "PNG"))) as image:
        white = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    np.testing.assert_array_equal(found, np.rot90(np.asarray(white.convert("RGB"))))


@pytest.mark.parametrize("orientation", [0, 9, 1000])
def test_orientations_that_do_not_exist(orientation):
    np.testing.assert_array_equal(read_bytes(turned("PNG", orientation)), NOISE[..., :3])


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x05", b"Exif\0\0" + bytes(range(64))])
def test_damaged_exif(exif):
    content = saved(COLOR, "PNG", exif=exif or None)
    np.testing.assert_array_equal(read_bytes(content), NOISE[..., :3])


def write_turned(root: Path) -> Path:
    """A folder whose images are stored lying on their side: upright they are 6×10, red above blue."""
    upright = np.zeros((10, 6, 3), np.uint8)
    upright[:5, :, 0], upright[5:, :, 2] = 255, 255
    for split in ("train", "test"):
        for label in "ab":
            for k in range(3):
                file = save(root / split / label / f"{k}.png")
                file.write_bytes(turned("PNG", 6, Image.fromarray(np.rot90(upright))))
    return root


@pytest.mark.parametrize("memory", [2**30, 0], ids=["in memory", "streamed"])
def test_every_reader_of_data_sets_turns_images(tmp_path, memory):
    from rawcnn.data.folders import folder_items

    root = write_turned(tmp_path / "pets")
    pack(*folder_items(root), tmp_path / "copied")
    pack(*folder_items(root), tmp_path / "shrunk", size=3)
    for name, shape in ((f"folder:{root}", (10, 6)), (f"records:{tmp_path / 'copied'}", (10, 6)),
                        (f"records:{tmp_path / 'shrunk'}", (5, 3))):  # fmt: skip
        loaded = data.load(name, memory=memory)
        assert loaded.size == shape
        for image in (*loaded.take("train", [0, 3]), *(next(loaded.batches("test", 2))[0].numpy())):
            assert image[0, :, 0].min() > 0.9 > 0.1 > image[-1, :, 0].max() and image[-1, :, 2].min() > 0.9
        original = next(iter(loaded.originals("train")))
        assert original.shape[:2] == shape and original[0, 0, 0] > 200 > original[-1, 0, 0]


def test_a_photograph_is_predicted_upright(tmp_path):
    file = write_turned(tmp_path) / "train" / "a" / "0.png"
    image = read_image(file, (6, 6))
    assert (image[0] == (255, 0, 0)).all() and (image[-1] == (0, 0, 255)).all()


def test_damaged_metadata_are_no_warning_on_the_command_line(tmp_path, rawcnn_command):
    file = tmp_path / "photo.jpg"
    file.write_bytes(saved(COLOR, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\x01\0\x06"))
    code, _, err = rawcnn_command("predict", "cifar_resnet20", "--size", 8, file)
    assert code == 0 and "arning" not in err
    large = tmp_path / "large.png"
    large.write_bytes(png(GREY, 8, [bytes(30_000)] * 3001, 30_000))
    code, _, err = rawcnn_command("predict", "cifar_resnet20", "--size", 8, large)
    assert code == 2 and "arning" not in err and "30000×3001 pixels; expected 67,108,864 at most" in err
