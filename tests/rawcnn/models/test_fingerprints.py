"""The operations of every model are those of its committed fingerprint, which somebody compared with the paper."""

from __future__ import annotations

import pytest

from tests.rawcnn.models.fingerprints import CASES, FOLDER, fingerprint


def test_every_model_has_a_fingerprint():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CASES)


@pytest.mark.sample("^alexnet$", "^googlenet$", "^cifar_resnet20$", "^resnext50$")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if case.representative else [pytest.mark.deeper]) for name, case in CASES.items()],
)
def test_operations_are_those_of_the_fingerprint(name):
    expected = (FOLDER / f"{name}.txt").read_text().splitlines()
    assert fingerprint(CASES[name]).splitlines() == expected
