"""The README's picture, the tour's page at AlexNet: `python docs/tour_picture.py tour/index.html` (needs Chromium).

A second argument says at which row of the page the picture begins, for when what stands above has grown.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

PICTURE = Path(__file__).resolve().parent / "tour.png"
WIDTH, HEIGHT, TOP = 900, 720, 1890


def take(page: Path, top: int = TOP) -> None:
    """Photograph the page and keep HEIGHT of its rows: Chromium's headless pictures always begin at its first."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        sys.exit("there is no Chromium on this machine; install it to take the picture")
    with TemporaryDirectory() as folder:
        whole = Path(folder) / "page.png"
        size = f"--window-size={WIDTH},{top + HEIGHT}"
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={whole}")
        subprocess.run([browser, *options, page.resolve().as_uri()], check=True, capture_output=True)
        with Image.open(whole) as picture:
            picture.crop((0, top, WIDTH, top + HEIGHT)).save(PICTURE, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
