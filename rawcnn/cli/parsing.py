"""Convert the text of options to values, and check values and paths before any work starts."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any

import typer

from rawcnn.files.atomic import regular_file

ImageSize = int | tuple[int, int]  # the side of square images, or (height, width)
PICTURES = (".png", ".svg", ".pdf")


def check_writable(path: Path | None, *endings: str) -> list[Path]:
    """Check that a file can be written, and create its folder.

    Args:
        path: The file; None is not checked.
        endings: The allowed file endings; without any, all are allowed.

    Returns:
        The folders that were created, the innermost first.

    Raises:
        ValueError: The ending is another one, the folder cannot be created, or the file cannot be written.
    """
    if path is None:
        return []
    if endings and path.suffix not in endings:
        raise ValueError(f"{path} has the ending {path.suffix!r}; expected {' or '.join(endings)}")
    created = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(f"{path.parent} is a file, and {path.name} needs a folder; name another path") from error
    except OSError as error:
        raise ValueError(f"the folder of {path} cannot be created: {error.strerror}; name another path") from error
    if path.exists() and not path.is_dir():
        regular_file(path)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: it is a folder, or you lack permission; name another path")
    return created


def parse_settings(options: Sequence[str] | None, option: str = "--option", example: str = "shortcut=A") -> dict:
    """Convert ["shortcut=A", "groups=1"] to {"shortcut": "A", "groups": 1}.

    Args:
        options: The values of a repeated option, each as NAME=VALUE.
        option: The option's name, for the error message.
        example: A correct value, for the error message.

    Returns:
        The settings by name. A fraction such as 8/255 becomes a float; a value that is no Python literal stays text.

    Raises:
        ValueError: A value has no name or no equals sign.
    """
    settings: dict[str, Any] = {}
    for text in options or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{option} is {text!r}; expected NAME=VALUE, such as {example}")
        settings[name] = _setting(value)
    return settings


def _setting(text: str) -> Any:
    """Return the value of a Python literal or a fraction; other text as it is."""
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # such as {[]: 1}, or too deep
        number = _number(text) if "/" in text else None
        return text if number is None else number


def parse_model_settings(options: Sequence[str] | None, *others: str) -> dict[str, Any]:
    """Convert the values of --option; raise ValueError for `others` and other names that no model has as a setting."""
    settings = parse_settings(options)
    for name in ("model", "name", "seed", "precision", "batch", "weights", "head", "check", *others):
        if name in settings:
            raise ValueError(f"--option names {name}, which is not a setting of a model; use the command's own options")
    return settings


def parse_integers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Convert "256,384" to (256, 384), and None to None; raise ValueError for anything else."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} is {text!r}; expected whole numbers with commas between them") from None


def parse_amount(text: Any) -> Any:
    """Convert the number or fraction of an option that is an ε or a step in pixel values, such as 0.03 or 8/255.

    Raises:
        typer.BadParameter: The text is neither, or is negative or not finite; Typer names the option and the command.
    """
    if not isinstance(text, str):  # a default value
        return text
    amount = _number(text)
    if amount is None or not 0 <= amount < inf:
        raise typer.BadParameter(
            f"{text!r} is not an amount; expected 0 or more as a number or fraction, such as 8/255"
        )
    return amount


def _number(text: str) -> float | None:
    """Return the value of a number or of a fraction of two numbers; None for other text."""
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        return None


def parse_size(text: Any) -> Any:
    """Convert the SIDE or HEIGHTxWIDTH of --size to an int or a pair.

    Raises:
        typer.BadParameter: The text is neither; Typer names the option and the command.
    """
    if not isinstance(text, str):  # a default value
        return text
    try:
        sides = [int(part) for part in re.split("[x×]", text.lower())]
    except ValueError:
        sides = []
    if not 1 <= len(sides) <= 2 or min(sides) < 1:
        raise typer.BadParameter(f"{text!r} is not a size; expected a side in pixels, such as 224, or HEIGHTxWIDTH")
    return sides[0] if sides[0] == sides[-1] else (sides[0], sides[1])


def show_size(size: Any) -> str | int | None:
    """Return a size as --size takes it: 224 or 224x160; None stays None."""
    return "x".join(map(str, size)) if isinstance(size, (tuple, list)) else size


def parse_position(text: str | None) -> tuple[int, int] | None:
    """Convert the "ROW,COLUMN" of --position to a pair, and None to None; raise ValueError for anything else."""
    numbers = parse_integers("--position", text)
    if numbers is not None and len(numbers) != 2:
        raise ValueError(f"--position is {text!r}; expected ROW,COLUMN, such as 3,4")
    return None if numbers is None else (numbers[0], numbers[1])


def check_finite(**options: float | None) -> None:
    """Raise ValueError for an option that is infinite or not a number."""
    for name, value in options.items():
        if value is not None and not isfinite(value):
            raise ValueError(f"--{name.replace('_', '-')} is {value}; expected a finite number")


def parse_split(text: str) -> str:
    """Return the split that --split names, in any case and by any name that a split's folder may have.

    Raises:
        typer.BadParameter: It names none; Typer names the option and the command.
    """
    from rawcnn.data.split_folders import split_named

    split = "all" if text.casefold() == "all" else split_named(text)
    if split is None:
        raise typer.BadParameter(f"{text!r} is not a split; expected train, test, validation or all")
    return split


def check_share(option: str, share: float | None) -> None:
    """Raise ValueError for a share of images, the value of an option, that is not between 0 and 1."""
    if share is not None and not 0 < share < 1:
        raise ValueError(f"{option} is {share}; expected a share of the training images between 0 and 1, such as 0.1")


def without_folders(word: str) -> str:
    """Shorten a path outside the current folder to its last name: /a/w.npz becomes w.npz, folder:/a/b folder:b.

    Result files record commands in this form, so that they do not reveal the folders of a machine.
    """
    return re.sub(r"(^|[:=])(?:~|\.\.|)/(?:.*/)?(?=[^/]+/?$)", r"\1", word)
