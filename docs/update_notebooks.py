"""Make the .ipynb files of docs/notebooks from their .py files: `python docs/update_notebooks.py`.

The .py files are the source, in jupytext's "percent" format. The .ipynb files are for Jupyter and Colab. They have no
outputs. A test compares the two. `python docs/update_notebooks.py --execute FOLDER` runs all lessons and writes them
with their outputs into another folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent / "notebooks"
SECONDS = 600  # the longest time of a cell


def lessons() -> list[Path]:
    """The .py files in the lecture's order."""
    return sorted(FOLDER.glob("*.py"))


def notebook(lesson: Path) -> nbformat.NotebookNode:
    """The notebook of a lesson, the same at each call: cells are numbered where jupytext draws random names."""
    made = jupytext.read(lesson, fmt="py:percent")
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number:02}"
    made.metadata = nbformat.from_dict({"kernelspec": made.metadata.kernelspec, "language_info": {"name": "python"}})
    return made


def text(lesson: Path) -> str:
    """The content of the .ipynb file."""
    return nbformat.writes(notebook(lesson), ensure_ascii=False) + "\n"


def execute(lesson: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a lesson in a kernel of its own, in `folder`. Returns it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed; the message has its code and its traceback.
    """
    made = notebook(lesson)
    resources = {"metadata": {"path": str(folder)}}
    return NotebookClient(made, timeout=SECONDS, kernel_name="python3", resources=resources).execute()


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--execute", type=Path, metavar="FOLDER", help="run the lessons, and write them there")
    folder = parser.parse_args().execute
    for lesson in lessons():
        start = time.monotonic()
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / lesson.with_suffix(".ipynb").name
            nbformat.write(execute(lesson, folder), target)
        else:
            target = lesson.with_suffix(".ipynb")
            target.write_text(text(lesson), encoding="utf-8")
        print(f"{target} ({time.monotonic() - start:.0f} s)")


if __name__ == "__main__":
    main()
