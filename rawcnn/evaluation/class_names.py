"""Names of classes: read from files, and matched between a network and a data set."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from rawcnn.data import DataSet
from rawcnn.data.dataset import check_data_set
from rawcnn.nn.network import Network


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


def check_classes(network: Network, data: DataSet) -> None:
    """Check that the network has as many classes as the data set. Raises ValueError."""
    check_data_set(data)
    network.check_classifier()
    count = len(data.labels)
    if count == network.classes:
        return
    if network.labels is None:
        raise ValueError(
            f"{data.name} has {count} classes, but {network.name} was built for {network.classes}; give it "
            f"--classes {count}, in Python classes={count}"
        )
    difference = _difference(*([_plain(name) for name in names] for names in (network.labels, data.labels)))
    raise ValueError(
        f"{data.name} has {count} classes, but {network.name} was trained for {network.classes}: {difference}; "
        f"expected the same classes, or load the weights without their classifier: --classes {count} --head skip, "
        f'in Python classes={count}, head="skip"'
    )


def match_classes(network: Network, data: DataSet, *, force: bool = False) -> DataSet:
    """Return the data set with the classes of the network: in its order, if both know the names.

    Names are compared without regard to case, and _ counts as a space.

    Args:
        network: The network; its `labels` are None if it does not know the names of its classes.
        data: The data set.
        force: Keep the numbers of the data set's classes, whatever the names are.

    Raises:
        ValueError: The numbers of classes differ; or, unless `force`, the names do.
    """
    check_classes(network, data)
    network.check_labels()
    if force or network.labels is None or tuple(network.labels) == data.labels:
        return data
    known, found = ([_plain(name) for name in names] for names in (network.labels, data.labels))
    if known == found:
        return data
    if sorted(known) != sorted(found) or len({*known}) < len(known):
        raise ValueError(
            f"{data.name} has other classes than {network.name} was trained for: {_difference(known, found)}; "
            "rename its classes, or give --force (in Python force=True) to compare them by number"
        )
    return data.with_classes(tuple(network.labels), [known.index(name) for name in found])


def _plain(name: str) -> str:
    """A name without case, and without what a folder's name cannot hold or often replaces: slashes and spaces."""
    for slash in "∕⁄／":  # they stand for / in the names of folders
        name = name.replace(slash, "/")
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())


def _difference(known: Sequence[str], found: Sequence[str]) -> str:
    """Say which names the data and the network do not share."""
    sides = []
    for names, others, side in ((found, known, "data"), (known, found, "network")):
        if only := [repr(name) for name in dict.fromkeys(names) if name not in others]:
            sides.append(f"only the {side} has {', '.join(only[:3])}{', …' if len(only) > 3 else ''}")
    return ", ".join(sides) or "a name occurs twice, so that their order cannot be compared"
