"""Vectors as points of a square, such that vectors of similar direction lie near each other.

UMAP (McInnes, Healy, Melville 2018) where umap-learn is installed, with the settings of Carter et al., "Activation
Atlas", Distill 2019; else t-SNE (van der Maaten & Hinton 2008), which comes with scikit-learn. Both keep neighbours
together; how far apart two distant points lie means little, and the axes mean nothing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

METHODS = ("auto", "umap", "tsne")
FEWEST = 8  # vectors that can be laid out
NEIGHBORS, DISTANCE = 20, 0.01  # of UMAP
PERPLEXITY = 30  # of t-SNE: about how many neighbours count
DIMENSIONS = 50  # that t-SNE's vectors are reduced to
THREADS = 1  # of t-SNE: several would add up in any order, and wait for each other on a busy machine
OUTLIERS = 1  # percent at each end of each axis that are moved to the edge


@dataclass(frozen=True)
class Layout:
    """Where each vector lies, and by which method."""

    points: np.ndarray = field(repr=False)  # float32 [N,2] in [0,1]
    method: str  # "umap" or "tsne"


def layout(vectors, method: str = "auto", seed: int = 0) -> Layout:
    """Points for vectors [N,C] by the cosines between them. "auto" is UMAP where it is installed, else t-SNE.

    The outermost percent at each end of each axis lies on the edge of the square. t-SNE takes a minute for 10,000
    vectors and grows with N·log N, so beyond 20,000 UMAP is the one to use. The same seed gives the same points on
    one machine; on another, UMAP's may differ. ValueError for fewer than eight vectors, one that is zero or not
    finite, an unknown method, and "umap" where it is not installed.
    """
    chosen = check_method(method)
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) < FEWEST:
        raise ValueError(f"the vectors have shape {vectors.shape}; expected [N,C], {FEWEST} vectors or more")
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise ValueError("some vectors are zero or not finite; expected vectors that point somewhere")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Layout(stretched((_umap if chosen == "umap" else _tsne)(unit, seed)), chosen)


def check_method(method: str) -> str:
    """ "umap" or "tsne": the method that this machine can use. ValueError as `layout` says."""
    if method not in METHODS:
        raise ValueError(f"layout is {method!r}; expected one of {', '.join(METHODS)}")
    if method == "tsne":
        return method
    if _umap_class() is not None:
        return "umap"
    if method == "umap":
        raise ValueError("the layout umap needs umap-learn; pip install 'rawcnn[atlas]', or use tsne")
    return "tsne"


def stretched(points: np.ndarray) -> np.ndarray:
    """Points [N,2] clipped at the percentiles 1 and 99 of each axis and stretched to [0,1]."""
    low, high = np.percentile(points.astype(np.float64), (OUTLIERS, 100 - OUTLIERS), axis=0)
    width = high - low
    shares = np.where(width > 0, (points - low) / np.where(width > 0, width, 1), 0.5)
    return np.clip(shares, 0, 1).astype(np.float32)


def _umap_class():
    """The class UMAP, or None where umap-learn is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its own imports find old
        try:
            from umap import UMAP
        except ImportError:
            return None
    return UMAP


def _umap(unit: np.ndarray, seed: int) -> np.ndarray:
    neighbors = min(NEIGHBORS, len(unit) - 1)
    model = _umap_class()(
        n_neighbors=neighbors, min_dist=DISTANCE, metric="cosine", random_state=_random_state(seed), n_jobs=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separate groups of points are no fault here
        return model.fit_transform(unit)


def _tsne(unit: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    state = _random_state(seed)
    with threadpool_limits(THREADS, user_api="openmp"):
        if unit.shape[1] > DIMENSIONS:  # PCA that leaves the origin where it is, and so the cosines
            unit = TruncatedSVD(min(DIMENSIONS, len(unit) - 1), random_state=state).fit_transform(unit)
        perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
        model = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=state)
        return model.fit_transform(unit.astype(np.float32))


def _random_state(seed: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.PCG64([seed]))
