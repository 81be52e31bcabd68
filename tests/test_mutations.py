"""The list of faults fits the code: the text that a fault replaces is there once, and its tests exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS, KNOWN

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {path.parent.name for path in (ROOT / "rawcnn").glob("*/__init__.py")}
# Packages that only show what others compute, and those whose faults are in the modules that they put together
WITHOUT = {"cli", "plots"}


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_a_fault_fits_the_code(fault):
    assert (ROOT / fault.file).read_text(encoding="utf-8").count(fault.text) == 1
    assert fault.text != fault.instead
    named = [word for word in fault.tests if word.startswith("tests/")]
    assert named
    for word in named:
        path, _, test = word.partition("::")
        assert (ROOT / path).exists()
        assert not test or f"def {test.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8")


def test_faults_are_of_all_packages():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 44 and len(KNOWN) == 14
    files = {fault.file for fault in FAULTS}
    assert PACKAGES - {file.split("/")[1] for file in files if file.startswith("rawcnn/")} <= WITHOUT
    assert {"kernels", "kernels/forms", "kernels/dispatch"} <= {str(Path(file).parent) for file in files}
