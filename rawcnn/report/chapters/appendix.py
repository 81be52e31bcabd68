"""The appendix: the papers' tables, the diagrams of all networks, the race against Keras, settings and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rawcnn.report.album import Album
from rawcnn.report.chapters.architectures import Architectures
from rawcnn.report.page import Chapter
from rawcnn.report.progress import Clock
from rawcnn.report.sections import papers, provenance, race, zoo


def race_keras(clock: Clock) -> list[dict[str, object]]:
    """Race a network's inference and training step against Keras's."""
    from benchmarks.run import tour_race  # the only import of Keras

    with clock.step("Race against Keras") as report:
        finished = 0  # races; each counts its own steps

        def report_race(_: str, done: int, total: int) -> None:
            nonlocal finished
            report(finished * total + done, 2 * total)
            finished += done == total

        return [result.to_json() for result in tour_race(report_race)]


def render(
    found: Architectures,
    races: Sequence[race.Race],
    circumstances: Mapping[str, object],
    seconds: Mapping[str, float],
    album: Album,
) -> Chapter:
    """Return the chapter.

    Args:
        found: The networks' costs.
        races: The races against Keras; none without them.
        circumstances: The settings, versions and machine.
        seconds: The time of each step.
        album: The page's pictures.
    """
    raced = [race.section(races, album)] if races else []
    return Chapter(
        "Appendix",
        (
            *papers.tables(found.comparisons, found.profiles, album),
            *zoo.diagrams(found.profiles),
            *raced,
            provenance.section(circumstances, seconds),
        ),
        "The papers' tables in full, a diagram of each network, and how this page was made.",
    )
