"""The README's picture, the tour's page at AlexNet: `python docs/tour_picture.py tour/index.html` (needs Chromium)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

PICTURE = Path(__file__).resolve().parent / "tour.png"


def take(page: Path, section: str = "alexnet") -> None:
    """Photograph the page from the heading of `section` on, as a laptop shows it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        sys.exit("there is no Chromium on this machine; install it to take the picture")
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=900,700", f"--screenshot={PICTURE}")
    subprocess.run([browser, *options, f"{page.resolve().as_uri()}#{section}"], check=True, capture_output=True)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
