"""Take the README's picture of the lecture report at AlexNet: `python docs/tour_picture.py tour/index.html`.

This needs Chromium. A second argument is the page row at which the picture starts; adjust it if the page above grows.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

PICTURE = Path(__file__).resolve().parent / "tour.png"
WIDTH, HEIGHT, TOP = 900, 720, 2020


def take(page: Path, top: int = TOP) -> None:
    """Keep HEIGHT rows of the page from `top` on. Chromium's headless screenshots always start at the first row."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        sys.exit("Chromium was not found; install it to take the picture")
    with TemporaryDirectory() as folder:
        screenshot = Path(folder) / "page.png"
        size = f"--window-size={WIDTH},{top + HEIGHT}"
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", size, f"--screenshot={screenshot}")
        subprocess.run([browser, *options, page.resolve().as_uri()], check=True, capture_output=True)
        with Image.open(screenshot) as picture:
            picture.crop((0, top, WIDTH, top + HEIGHT)).save(PICTURE, optimize=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
