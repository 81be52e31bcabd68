"""The photographs of installed packages, and their patches."""

from __future__ import annotations

import numpy as np
import pytest

from rawcnn.data.photographs import PHOTOGRAPHS, Photograph, installed, patches, whole

MISSING = Photograph("unicorn", "no_such_package", "unicorn.png", "nobody")


def test_scikit_learns_are_always_there():
    assert [photograph.name for photograph in installed()[:2]] == ["temple", "flower"]
    assert {photograph.package for photograph in PHOTOGRAPHS} == {"sklearn", "skimage"}


def test_a_complete_photograph():
    image = whole(PHOTOGRAPHS[0], (60, 90))
    assert image.shape == (60, 90, 3) and image.dtype == np.float32
    assert 0 <= image.min() < 0.1 and 0.9 < image.max() <= 1


def test_a_missing_photograph_is_named():
    assert MISSING.path is None
    with pytest.raises(ValueError, match=r"a unicorn is in no_such_package, .*pip install 'rawcnn\[vgg\]'"):
        whole(MISSING, (8, 8))


def test_patches_cover_a_photograph():
    """china.jpg has 427×640 pixels. Three patches of 24 pixels high, it is 72×108."""
    data = patches(PHOTOGRAPHS[:2], 24)
    images, labels = data.arrays("train")
    assert data.labels == ("temple", "flower") and images.shape[1:] == (24, 24, 3)
    assert labels.tolist() == [0] * 24 + [1] * 24  # 4 rows of 6
    scaled = whole(PHOTOGRAPHS[0], (72, 108))
    for patch, corner in ((0, scaled[:24, :24]), (23, scaled[-24:, -24:])):
        assert np.abs(images[patch] - corner).mean() < 0.05
