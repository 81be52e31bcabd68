"""The folder of a report: it changes only when all files are complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rawcnn.files.atomic import atomic_files

LAST = ("tour.json", "index.html")  # these refer to the pictures, so they are moved after them


@contextmanager
def report_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder to write into, and move its files to `folder` at the end, the page last.

    Files of an earlier report are replaced, other files stay. After an error, `folder` is unchanged.

    Args:
        folder: The folder of the report. It is created.

    Raises:
        ValueError: `folder` is a file or cannot be written to. This is checked before any work is done.
    """
    target = Path(folder).expanduser().absolute()
    is_new = not target.exists()
    files = ExitStack()
    try:
        temporary = files.enter_context(atomic_files(target, last=LAST))
    except FileExistsError as error:
        raise ValueError(f"{folder} is a file; give the name of a folder for the report") from error
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}; give another folder for the report") from error
    try:
        with files:
            yield temporary
    except OSError as error:
        raise ValueError(f"the report could not be written to {folder}: {error.strerror or error}") from error
    finally:
        if is_new and not any(target.iterdir()):
            target.rmdir()
