"""Layouts: who is whose neighbor, never where; the settings of each method, and what happens where one is missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from rawcnn.visualize.projection import available_method, project, stretched
from tests.references import close


def clusters(count: int = 40, channels: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around five directions, of many lengths: cosines tell them apart, distances do not."""
    generator = np.random.default_rng(0)
    labels = np.arange(5 * count) % 5
    directions = 1.2 * generator.standard_normal((5, channels))
    vectors = directions[labels] + generator.standard_normal((5 * count, channels))
    return (vectors * generator.lognormal(0, 3, (5 * count, 1))).astype(np.float32), labels


def neighbors_alike(points: np.ndarray, labels: np.ndarray, count: int = 10) -> float:
    """The share of each point's nearest neighbors that are of its own label."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :count]
    return float((labels[nearest] == labels[:, None]).mean())


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])  # umap compiles itself
def test_what_points_one_way_lies_together(method):
    if method == "umap":
        pytest.importorskip("umap", reason="needs umap-learn")
    vectors, labels = clusters()
    assert neighbors_alike(vectors, labels) < 0.9  # by distance they are mixed
    found = project(vectors, method, seed=3)
    assert found.method == method and found.points.shape == (200, 2) and found.points.dtype == np.float32
    assert found.points.min() == 0 and found.points.max() == 1
    assert neighbors_alike(found.points, labels) > 0.98
    assert project(vectors, method, seed=3).points.tobytes() == found.points.tobytes()


def test_points_are_clipped_at_percentiles():
    points = np.random.default_rng(0).standard_normal((500, 2)) * (1, 7) + (3, -50)
    found = stretched(points)
    for axis in range(2):
        ordered = np.sort(points[:, axis])
        low, high = (ordered[int(i)] + (i % 1) * (ordered[int(i) + 1] - ordered[int(i)]) for i in (4.99, 494.01))
        close(found[:, axis], np.minimum(np.maximum((points[:, axis] - low) / (high - low), 0), 1).astype(np.float32))
    assert np.array_equal(stretched(np.ones((9, 2))), np.full((9, 2), 0.5))


def test_without_umap_there_is_tsne(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # what an import finds where it is not installed
    assert available_method("auto") == available_method("tsne") == "tsne"
    assert project(clusters(4)[0]).method == "tsne"
    with pytest.raises(ValueError, match=r"pip install 'rawcnn\[atlas\]'"):
        project(clusters(4)[0], "umap")


def test_umap_is_asked_as_the_article_asks_it(monkeypatch):
    asked = {}

    class Fake:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, vectors):
            asked["lengths"] = np.linalg.norm(vectors, axis=1)
            return vectors[:, :2]

    monkeypatch.setattr("rawcnn.visualize.projection._umap_class", lambda: Fake)
    assert project(clusters()[0]).method == "umap"
    assert {name: asked[name] for name in ("metric", "n_neighbors", "min_dist")} == {
        "metric": "cosine",
        "n_neighbors": 20,
        "min_dist": 0.01,
    }
    close(asked["lengths"], np.ones(200, np.float32))
    project(clusters(2)[0])
    assert asked["n_neighbors"] == 9


def test_what_cannot_be_laid_out():
    with pytest.raises(ValueError, match="expected one of auto, umap, tsne"):
        project(np.ones((9, 3)), "pca")
    with pytest.raises(ValueError, match=r"shape \(7, 3\); expected \[N,C\], 8 vectors"):
        project(np.ones((7, 3)), "tsne")
    for wrong in (0.0, np.nan):
        vectors = np.ones((9, 3))
        vectors[4] = wrong
        with pytest.raises(ValueError, match="zero or not finite"):
            project(vectors, "tsne")
