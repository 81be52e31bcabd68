"""Pictures inside an HTML file."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

from rawcnn.visualize.pictures import enlarge, picture


def data_uri(pixels, scale: int = 1) -> str:
    """Return a picture [H,W,3] in [0,1], enlarged `scale` times, as a data: URI of a PNG."""
    file = BytesIO()
    Image.fromarray(np.rint(enlarge(picture(pixels), scale) * 255).astype(np.uint8)).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
