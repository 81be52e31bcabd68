"""`rawcnn exercise`: start, check, hint and solve exercises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import Json

app = typer.Typer(
    help="Write twelve functions of the lecture yourself, and check them.", no_args_is_help=True, rich_markup_mode=None
)
Number = Annotated[int, typer.Argument(help="Number of the exercise; `rawcnn exercise list` lists them.")]
Folder = Annotated[Path, typer.Option(help="Folder of your files.")]
WRONG = 1  # the exit code of `check` for an answer that is not right yet


@app.command("list")
def list_exercises(folder: Folder = Path("exercises"), as_json: Json = False) -> None:
    """List the exercises, and which of them you have started."""
    from rawcnn.explain.exercises import EXERCISES

    screen = Screen(as_json)
    rows = [
        {
            "number": number,
            "title": exercise.title,
            "function": exercise.name,
            "source": exercise.source,
            "started": (folder / exercise.file_name(number)).is_file(),
        }
        for number, exercise in enumerate(EXERCISES, 1)
    ]
    cells = [(r["number"], r["title"], r["function"], "started" if r["started"] else "") for r in rows]
    screen.print_table("Exercises", ("number", "write", "function", ""), cells, text=("write", "function", ""))
    screen.print(f"Begin with: rawcnn exercise start 1{_folder_option(folder)}")
    screen.print_json(rows)


@app.command()
def start(
    number: Number,
    folder: Folder = Path("exercises"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace a file that you have begun.")] = False,
) -> None:
    """Write a file with the task and an empty function."""
    from rawcnn.explain.exercises import find_exercise
    from rawcnn.files.atomic import write_atomic

    exercise = find_exercise(number)
    file = folder / exercise.file_name(number)
    if file.exists() and not fresh:
        raise ValueError(f"{file} exists, and may hold your work; check it, or replace it with --fresh")
    write_atomic(file, exercise.start(number).encode())
    screen = Screen(as_json=False)
    screen.print(f"{file}: {exercise.title}")
    screen.print(f"Edit it, then: rawcnn exercise check {number}{_folder_option(folder)}")


@app.command()
def check(number: Number, folder: Folder = Path("exercises"), as_json: Json = False) -> None:
    """Check your function, and show the first value that is wrong.

    Your file is run. The exit code is 0 if all is right, 1 if not, and 2 if your file cannot be run.
    """
    from rawcnn.explain.exercises import find_exercise
    from rawcnn.explain.exercises.checking import check as check_function
    from rawcnn.explain.exercises.checking import load_function

    exercise, screen = find_exercise(number), Screen(as_json)
    file = folder / exercise.file_name(number)
    verdicts = check_function(exercise, load_function(exercise, file), file)
    for verdict in verdicts:
        screen.print(f"{'right' if verdict.right else 'wrong'}  {verdict.case}: {verdict.message}")
        for name, values in verdict.shown.items():
            screen.print(f"  {name}:")
            for line in _text(values).splitlines():
                screen.print(f"    {line}")
    right = all(verdict.right for verdict in verdicts)
    if right:
        screen.print(f"Exercise {number} is solved. rawcnn's own version is in {exercise.source}.")
    else:
        screen.print(f"For help: rawcnn exercise hint {number}")
    screen.print_json(
        {
            "number": number,
            "right": right,
            "cases": [{"case": v.case, "right": v.right, "message": v.message} for v in verdicts],
        }
    )
    if not right:
        raise typer.Exit(WRONG)


@app.command()
def hint(
    number: Number,
    count: Annotated[int, typer.Option(help="Number of hints to show.", min=1)] = 1,
) -> None:
    """Show a hint."""
    from rawcnn.explain.exercises import find_exercise

    exercise, screen = find_exercise(number), Screen(as_json=False)
    for place, text in enumerate(exercise.hints[:count], 1):
        screen.print(f"{place}. {text}")
    if count < len(exercise.hints):
        screen.print(f"There is more: rawcnn exercise hint {number} --count {count + 1}")
    else:
        screen.print(f"That is all: rawcnn exercise solution {number}")


@app.command()
def solution(number: Number) -> None:
    """Print a solution as a Python file."""
    from rawcnn.explain.exercises import find_exercise

    Screen(as_json=False).print(find_exercise(number).solved(number).rstrip())


def _folder_option(folder: Path) -> str:
    """The option that names the folder, if it is not the default."""
    return "" if folder == Path("exercises") else f" --folder {folder}"


def _text(values: Any) -> str:
    """Arrays as NumPy prints them, with few digits."""
    if isinstance(values, (list, np.ndarray)):
        return np.array2string(np.asarray(values), precision=4, suppress_small=True, max_line_width=100)
    return str(values)
