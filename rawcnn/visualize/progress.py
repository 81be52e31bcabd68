"""Progress callbacks of work that consists of several parts."""

from __future__ import annotations

from rawcnn.files.progress import Progress, StageProgress


def equal_part(report: Progress | None, index: int, count: int) -> Progress | None:
    """A callback for the part `index` of `count` parts of equal length, which reports the progress of all of them."""
    if report is None:
        return None
    return lambda done, total: report(index * total + done, count * total)


def part_from(report: Progress | None, start: int, total: int) -> Progress | None:
    """A callback for a part that begins after `start` of `total` steps."""
    if report is None:
        return None
    return lambda done, _: report(start + done, total)


def stage(report: StageProgress | None, name: str) -> Progress | None:
    """A callback for the stage `name`."""
    if report is None:
        return None
    return lambda done, total: report(done, total, name)
