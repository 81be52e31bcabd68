"""A page of an explanation in headless Chromium: open operations, click positions, read what the page says."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Scroll an element into view and return where it is. Playwright's own click first waits until the page is at rest.
PLACE = """selector => {
  const element = document.querySelector(selector);
  element.scrollIntoView({block: "center", behavior: "instant"});
  return element.getBoundingClientRect().toJSON();
}"""


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium, or skip the test."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Explained:
    """An explanation that is open in a browser. Errors of its scripts, and requests that it sends, are collected."""

    def __init__(self, chromium: Any, file: Path, address: str = "", **context: Any):
        self.faults: list[str] = []
        self.requests: list[str] = []
        # A smooth scroll that goes on would move what is clicked next
        defaults = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        self.page = chromium.new_context(**(defaults | context)).new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(Path(file).resolve().as_uri() + (address and f"#{address}"))
        self.page.wait_for_selector("#forward .result", state="attached")

    def press(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Click a place of an element with the mouse, as shares of its width and height."""
        box = self.page.evaluate(PLACE, selector)
        self.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])

    def open(self, operation: str) -> None:
        """Click the card of an operation."""
        self.press(f'[data-operation="{operation}"]')
        assert self.text("#name") == operation

    def choose_channel(self, channel: int) -> None:
        self.page.select_option("#unit-channel", str(channel))

    def click(self, row: int, column: int, shape: tuple[int, int], canvas: str = "#output-map") -> None:
        """Click the center of a pixel of a map."""
        self.press(canvas, (column + 0.5) / shape[1], (row + 0.5) / shape[0])

    def select(self, unit: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
        """Select a unit of the open operation with the pointer."""
        if self.page.locator("#unit-channel").count():
            self.choose_channel(unit[2])
        if shape[:2] != (1, 1):
            self.click(*unit[:2], shape[:2])

    def choose_gradient(self, unit: tuple[int, int, int]) -> None:
        """Choose the unit of an input whose gradient is shown."""
        self.page.select_option("#backward-channel", str(unit[2]))
        for axis, index in zip(("row", "column"), unit[:2], strict=True):
            self.page.fill(f"#backward-{axis}", str(index))
            self.page.press(f"#backward-{axis}", "Enter")

    def value(self, selector: str) -> float:
        """Return a number of the page with all its digits."""
        return float(self.page.locator(f"{selector} output").first.get_attribute("data-value"))

    def printed(self, selector: str) -> float:
        """Return the same number as the page prints it."""
        return float(self.page.locator(f"{selector} output").first.inner_text().replace("−", "-"))

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()
