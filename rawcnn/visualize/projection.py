"""Project vectors to points of a square, so that vectors of similar direction lie near each other.

The projection is UMAP (McInnes, Healy, Melville 2018) if umap-learn is installed, with the settings of Carter et al.,
"Activation Atlas", Distill 2019. Otherwise it is t-SNE (van der Maaten & Hinton 2008), which comes with scikit-learn.
Both keep neighbors together. The distance between points that are far apart means little, and the axes have no
meaning.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

METHODS = ("auto", "umap", "tsne")
MINIMUM = 8  # vectors that can be projected
NEIGHBORS, DISTANCE = 20, 0.01  # of UMAP
PERPLEXITY = 30  # of t-SNE: roughly the number of neighbors that count
DIMENSIONS = 50  # to which the vectors are reduced before t-SNE
THREADS = 1  # of t-SNE: several threads would add in any order, and wait for each other on a busy machine
OUTLIERS = 1  # percent at each end of each axis that are moved to the edge


@dataclass(frozen=True)
class Projection:
    """The point of each vector, and the method that placed it."""

    points: np.ndarray = field(repr=False)  # float32 [N,2] in [0,1]
    method: str  # "umap" or "tsne"


def project(vectors, method: str = "auto", seed: int = 0) -> Projection:
    """Project vectors to the unit square by the cosines between them.

    The outermost percent at each end of each axis lies on the edge of the square. t-SNE takes about a minute for
    10,000 vectors and grows with N·log N, so UMAP is preferable beyond 20,000. The same seed gives the same points on
    one machine; UMAP's may differ on another.

    Args:
        vectors: [N,C].
        method: "umap", "tsne", or "auto" for UMAP if it is installed and t-SNE otherwise.
        seed: The seed of the projection.

    Raises:
        ValueError: For fewer than eight vectors, a vector that is zero or not finite, an unknown method, and for "umap"
            if it is not installed.
    """
    chosen = available_method(method)
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) < MINIMUM:
        raise ValueError(f"the vectors have shape {vectors.shape}; expected [N,C], {MINIMUM} vectors or more")
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise ValueError("some vectors are zero or not finite; expected vectors that have a direction")
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return Projection(stretched((_umap if chosen == "umap" else _tsne)(unit, seed)), chosen)


def available_method(method: str) -> str:
    """Return "umap" or "tsne": the method that `project` uses on this machine.

    Raises:
        ValueError: For an unknown method, and for "umap" if it is not installed.
    """
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
    """Points [N,2] clipped at the percentiles 1 and 99 of each axis and stretched to [0,1]: float32."""
    low, high = np.percentile(points.astype(np.float64), (OUTLIERS, 100 - OUTLIERS), axis=0)
    width = high - low
    shares = np.where(width > 0, (points - low) / np.where(width > 0, width, 1), 0.5)
    return np.clip(shares, 0, 1).astype(np.float32)


def _umap_class():
    """The class UMAP, or None if umap-learn is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations in the modules that it imports
        try:
            from umap import UMAP
        except ImportError:
            return None
    return UMAP


def _umap(unit: np.ndarray, seed: int) -> np.ndarray:
    """Unit vectors [N,C] → points [N,2]."""
    neighbors = min(NEIGHBORS, len(unit) - 1)
    model = _umap_class()(
        n_neighbors=neighbors, min_dist=DISTANCE, metric="cosine", random_state=_random_state(seed), n_jobs=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # separate groups of points are expected
        return model.fit_transform(unit)


def _tsne(unit: np.ndarray, seed: int) -> np.ndarray:
    """Unit vectors [N,C] → points [N,2]."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    state = _random_state(seed)
    with threadpool_limits(THREADS, user_api="openmp"):
        if unit.shape[1] > DIMENSIONS:  # a PCA that does not move the origin, and so keeps the cosines
            unit = TruncatedSVD(min(DIMENSIONS, len(unit) - 1), random_state=state).fit_transform(unit)
        perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
        model = TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=state)
        return model.fit_transform(unit.astype(np.float32))


def _random_state(seed: int) -> np.random.RandomState:
    """A generator of the kind that scikit-learn and umap-learn take."""
    return np.random.RandomState(np.random.PCG64([seed]))
