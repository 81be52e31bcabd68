"""Read class names from files: one name per line, or Keras's index of ImageNet."""

from __future__ import annotations

import json
from pathlib import Path


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the names in the order of the classes.

    Args:
        path: A text file with one name per line; or JSON, a list or {"0": ["n01440764", "tench"], …} as in
            imagenet_class_index.json.

    Raises:
        ValueError: The file is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8; expected a file with one class name per line") from error
    if path.suffix != ".json":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        content = json.loads(text)
        rows = [content[str(n)] for n in range(len(content))] if isinstance(content, dict) else content
        names = [row if isinstance(row, str) else row[1] for row in rows]
    except (json.JSONDecodeError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f'{path} is not a list of names in JSON, nor {{"0": ["id", "name"], …}}') from error
    return tuple(str(name).replace("_", " ") for name in names)
