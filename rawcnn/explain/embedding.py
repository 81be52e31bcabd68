"""Arrays in the page: pieces of float32 tensors, one after the other, in one base64 text.

A piece is a box of a tensor: for each axis, the indices that it holds. Several pieces of one tensor may overlap; a
value that any of them holds can be read.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple

import numpy as np

BASE64 = 4 / 3  # characters per byte
BYTES = 4  # of a float32


class Piece(NamedTuple):
    """A box of a tensor.

    Attributes:
        tensor: The tensor's name.
        axes: The indices on each axis, ascending; a range or a tuple.
    """

    tensor: str
    axes: tuple[range | tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """The number of its values."""
        return prod(len(axis) for axis in self.axes)

    def covers(self, other: Piece) -> bool:
        """Return whether this piece holds all values of another one of the same tensor."""
        pairs = zip(self.axes, other.axes, strict=True)
        return self.tensor == other.tensor and all(_within(theirs, mine) for mine, theirs in pairs)


def _within(some: range | tuple[int, ...], all_: range | tuple[int, ...]) -> bool:
    """Return whether all of some indices are among others."""
    if isinstance(some, range) and isinstance(all_, range):
        return not some or (all_.start <= some.start and some.stop <= all_.stop)
    return set(some) <= set(all_)


def whole(tensor: str, shape: Sequence[int]) -> Piece:
    """Return the piece that holds a whole tensor."""
    return Piece(tensor, tuple(range(length) for length in shape))


def distinct(pieces: Iterable[Piece]) -> list[Piece]:
    """Return the pieces without empty ones and without those that another piece covers, the largest first."""
    kept: dict[str, list[Piece]] = {}
    for piece in sorted(dict.fromkeys(pieces), key=lambda piece: (-piece.size, piece.tensor)):
        others = kept.setdefault(piece.tensor, [])
        if piece.size and not any(other.covers(piece) for other in others):
            others.append(piece)
    return [piece for pieces in kept.values() for piece in pieces]


def embed(pieces: Iterable[Piece], tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, dict], str]:
    """Write pieces of tensors as one text.

    Args:
        pieces: What to embed.
        tensors: The tensors by name.

    Returns:
        ({name: {"shape": [...], "pieces": [{"axes": [...], "offset": n}]}}, base64 of little-endian float32). An axis
        is {"start": a, "stop": b} or {"list": [...]}; the offset counts values, not bytes.
    """
    described: dict[str, dict] = {}
    chunks, offset = [], 0
    for piece in pieces:
        tensor = tensors[piece.tensor]
        values = tensor[np.ix_(*(np.asarray(axis) for axis in piece.axes))]
        chunks.append(np.ascontiguousarray(values, "<f4").tobytes())
        entry = described.setdefault(piece.tensor, {"shape": list(tensor.shape), "pieces": []})
        entry["pieces"].append({"axes": [_axis(axis) for axis in piece.axes], "offset": offset})
        offset += piece.size
    return described, base64.b64encode(b"".join(chunks)).decode()


def _axis(indices: range | tuple[int, ...]) -> dict[str, object]:
    if isinstance(indices, range):
        return {"start": indices.start, "stop": indices.stop}
    return {"list": [int(index) for index in indices]}
