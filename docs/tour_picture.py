"""Take the README's picture, a section of the lecture report: `python docs/tour_picture.py tour/index.html`.

This needs the system's Chromium, and Playwright from the extra `test`. A second argument names another section by its
anchor.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).resolve().parent / "tour.png"
SECTION = "edges-textures-patterns-parts"
WIDTH = 900  # pixels of the window


def take(page: Path, section: str = SECTION) -> None:
    """Save a section of the page as PICTURE."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        sys.exit("Chromium was not found; install it to take the picture")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": WIDTH, "height": 900})
        tab.goto(page.resolve().as_uri())
        tab.locator(f'section[aria-labelledby="{section}"]').screenshot(path=PICTURE)
        chromium.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]), *sys.argv[2:3])
