"""What the microscope saw of a run: values per epoch and layer, in one file of the run's folder.

The file is replaced atomically after each epoch, so a killed process leaves all complete rows. A row is identified by
its epoch, so a resumed run cannot add it twice.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from rawcnn.files.atomic import write_atomic

FILE = "microscope.npz"
VERSION = 2  # of the file's layout; files of version 1 do not say what was measured


@dataclass(frozen=True)
class Layers:
    """The names of what is measured, in the order of the forward pass.

    Attributes:
        outputs: Convolutions, fully connected layers and ReLUs: the columns of "activation_norm" and "gradient_norm".
        relus: The columns of "dead_units" and "dead_channels".
        weights: Paths of filters and weights: the columns of "weight_norm", "weight_gradient_norm" and "update_ratio".
        first: The path of the filters that read the images; "" if no convolution does.
    """

    outputs: tuple[str, ...]
    relus: tuple[str, ...]
    weights: tuple[str, ...]
    first: str


@dataclass(frozen=True)
class Row:
    """The values of one epoch.

    Attributes:
        epoch: The number of epochs that were done.
        rate: The learning rate for which "update_ratio" was measured.
        values: Name → array, as `rawcnn.training.microscope.observe` returns them.
    """

    epoch: int
    rate: float
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Observations:
    """All rows of a run, in the order of the epochs.

    Attributes:
        layers: The names of the columns.
        rows: One for each epoch that was measured.
        counterpart: For a plain or a residual network: path → gradient norm of the filters and weights of the network
            of the other kind, with new variables; empty otherwise.
        measured: On what all rows were measured: the number of "images", and whether they are "adversarial". Empty in
            the files of earlier versions.
    """

    layers: Layers
    rows: tuple[Row, ...]
    counterpart: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs that were measured."""
        return tuple(row.epoch for row in self.rows)

    def table(self, name: str) -> np.ndarray:
        """Return a quantity of all epochs: [epochs, columns], of "loss" [epochs], of "filters" [epochs,kh,kw,3,C]."""
        return np.stack([row.values[name] for row in self.rows])

    def until(self, epoch: int) -> Observations:
        """Return the rows up to an epoch."""
        return replace(self, rows=tuple(row for row in self.rows if row.epoch <= epoch))

    def adding(self, epoch: int, rate: float, values: Mapping[str, np.ndarray]) -> Observations:
        """Return the rows and another one."""
        return replace(self, rows=(*self.rows, Row(epoch, rate, values)))

    def write(self, path: Path) -> None:
        """Write all rows, atomically. Raises OSError."""
        about = {"layers": asdict(self.layers), "counterpart": dict(self.counterpart), "measured": dict(self.measured)}
        names = json.dumps({"version": VERSION, **about})
        arrays = {name: self.table(name) for name in self.rows[0].values}
        arrays |= {"names": np.array(names), "epochs": np.array(self.epochs)}
        arrays["rates"] = np.array([row.rate for row in self.rows])
        content = BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        write_atomic(path, content.getvalue())


def read_observations(path: Path) -> Observations:
    """Read the file of a run. Nothing in it is executed.

    Args:
        path: The file.

    Returns:
        The observations.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged or has another layout.
    """
    content = BytesIO(path.read_bytes())
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names, epochs, rates = json.loads(str(arrays.pop("names"))), arrays.pop("epochs"), arrays.pop("rates")
        if names["version"] not in (1, VERSION) or any(len(table) != len(epochs) for table in arrays.values()):
            raise ValueError("another layout")
        found = names["layers"]
        outputs, relus, weights = (tuple(map(str, found[name])) for name in ("outputs", "relus", "weights"))
        layers = Layers(outputs, relus, weights, str(found["first"]))
        rows = tuple(
            Row(int(epoch), float(rate), {name: table[place] for name, table in arrays.items()})
            for place, (epoch, rate) in enumerate(zip(epochs, rates, strict=True))
        )
        counterpart = {path: float(value) for path, value in names["counterpart"].items()}
        return Observations(layers, rows, counterpart, dict(names.get("measured", {})))
    except (ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}); delete it, and the run measures from its present epoch on"
        ) from error
