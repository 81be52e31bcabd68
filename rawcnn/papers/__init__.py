"""The papers' printed tables beside what the code counts, line by line, each difference explained or named.

A file a family of networks; `table` says what a comparison is, `errors` lists the published ImageNet errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from rawcnn.papers import alexnet, googlenet, inception, nasnet, resnet, resnext, senet, vgg
from rawcnn.papers.comparison import Comparison, Line, profiled

PAPERS: dict[str, Callable[[], Comparison]] = {
    "alexnet": alexnet.comparison,
    "vgg": vgg.comparison,
    "googlenet": googlenet.comparison,
    "resnet": resnet.comparison,
    "inception": inception.comparison,
    "resnext": resnext.comparison,
    "senet": senet.comparison,
    "nasnet": nasnet.comparison,
}

__all__ = ["PAPERS", "Comparison", "Line", "compare", "profiled"]


@cache
def compare(paper: str) -> Comparison:
    """The comparison for a name in PAPERS; ValueError, which lists them, for another."""
    if paper not in PAPERS:
        raise ValueError(f"there is no table of a paper called {paper!r}; the papers are {', '.join(PAPERS)}")
    return PAPERS[paper]()
