"""Copy what the README quotes from where it lives: `python docs/update_readme.py`. Tests hold the README against it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def between(text: str, marker: str, content: str) -> str:
    """`text` with what stands between `<!-- marker -->` and `<!-- end of marker -->` replaced."""
    start, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
    head, rest = text.split(start)
    return head + start + content + end + rest.split(end)[1]


def kernel() -> str:
    """kernels/linear.py, without its imports."""
    source = (ROOT / "kernels" / "linear.py").read_text()
    body = source[source.index("# 1. ") :].rstrip()
    return f"```python\n{body}\n```\n"


def updated(text: str) -> str:
    """The README as it should be."""
    return between(text, "kernel", kernel())


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(updated(readme.read_text()))
