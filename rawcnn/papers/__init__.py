"""Compare the papers' printed tables with rawcnn's counts, line by line. Each difference is explained or named.

There is one file for each family of networks. `comparison` defines a Comparison, and `imagenet_errors` lists the
published errors.
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
    """Return the comparison for a name in PAPERS.

    Raises:
        ValueError: PAPERS has no such name. The message lists all names.
    """
    if paper not in PAPERS:
        raise ValueError(f"there is no table of a paper called {paper!r}; the papers are {', '.join(PAPERS)}")
    return PAPERS[paper]()
