"""The default selection of `pytest`: at least one test of each file and each model."""

from __future__ import annotations

from pathlib import Path

import pytest

import rawcnn

ROOT = Path(__file__).resolve().parent
# Files without a test in the default selection, each with the reason.
OUTSIDE = {
    "test_attack_claims.py": "attacks hundreds of CIFAR-10 images; test_attack_references.py attacks digits",
    "test_torchvision.py": "needs PyTorch; test_seeded_logits.py compares with logits that torchvision gave",
}


@pytest.fixture(scope="module")
def default(collected) -> list[pytest.Item]:
    """The tests in the default selection; skips if only some files were collected."""
    if 2 * len(files_of(collected)) < len([*ROOT.rglob("test_*.py")]):
        pytest.skip("needs the tests of all files: run pytest without a path")
    return [item for item in collected if not any(map(item.get_closest_marker, ("slow", "deeper")))]


def files_of(items: list[pytest.Item]) -> set[str]:
    return {item.path.name for item in items}


def test_every_file_has_a_test_that_runs_by_default(collected, default):
    assert files_of(collected) - files_of(default) == set(OUTSIDE)


def test_every_model_runs_by_default(default):
    cases = [
        item.callspec.params.get("built") or item.callspec.params.get("case")
        for item in default
        if item.path.stem == "test_models"
        and item.originalname in ("test_every_model_runs", "test_eager_and_graph_agree_for_any_batch")
    ]
    assert {case.name for case in cases} == set(rawcnn.MODELS)


def test_every_sample_mark_keeps_a_case(collected, default):
    sampled = {item.nodeid.partition("[")[0] for item in collected if item.get_closest_marker("sample")}
    assert sampled <= {item.nodeid.partition("[")[0] for item in default}
