"""Say what a file is that is no image of a format that is read, by its first bytes."""

from __future__ import annotations

import re

START = 256  # bytes that are looked at

CONVERT = "convert it to PNG or JPEG"
KINDS = (
    (rb"$", "it is empty"),
    (rb"....ftyp(heic|heix|hevc|mif1|msf1|heim|heis)", f"it is a HEIC photograph; {CONVERT}"),
    (rb"....ftyp(avif|avis)", "it is a damaged AVIF image, or Pillow has no decoder for it"),
    (rb"....ftyp", "it is a video; save its frames as images"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", f"it is a JPEG XL image; {CONVERT}"),
    (rb"8BPS", f"it is a Photoshop document; {CONVERT}"),
    (rb"%PDF|%!PS|\xc5\xd0\xd3\xc6", f"it is a PDF or PostScript document; {CONVERT}"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", f"it is an SVG drawing; {CONVERT}"),
    (rb"\s*<(!doctype html|html|head|body)", "it is a web page: the download failed; download it again"),
    (rb"version https://git-lfs", "it is a Git LFS pointer, not the file itself; fetch the file with: git lfs pull"),
    (rb"\x93NUMPY|PK\x03\x04.*\.npy", "it is an array of NumPy; save it with PIL.Image.fromarray(array).save(file)"),
    (rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "it is an archive; unpack it"),
    (rb"P7[\n ]", f"it is a PAM image; {CONVERT}"),
    (rb"PF[\n ]", f"it is a PFM image in color; {CONVERT}"),
    (rb"\x00\x00[\x01\x02]\x00", f"it is an icon; {CONVERT}"),
    (rb"DDS |v/1\x01|#\?RADIANCE", f"it is a texture or an HDR image; {CONVERT}"),
    (rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+", f"it is a TIFF file, damaged or of a rare kind; {CONVERT}"),
    (rb"\x00{64}", "it holds only zeros; copy or download it again"),
)  # fmt: skip


def what_it_is(start: bytes) -> str:
    """Return what a file is and what to do about it, by its first bytes; "" for none of KINDS."""
    for pattern, what in KINDS:
        if re.match(pattern, start, re.IGNORECASE | re.DOTALL):
            return what
    return ""
