"""What the microscope costs: only runs that end alike, and that were measured, are compared."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measurements.microscope import check_outputs, epoch
from rawcnn.training.microscope import Microscope
from rawcnn.training.trainer import Training
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def measured(tmp_path, digits):
    """A run, its two kinds of epochs, and its microscope."""
    data = small.part(digits, 128, 64)
    training = Training(small.network(), dataclasses.replace(RECIPE, epochs=100), folder=tmp_path)
    training.progress.at.epoch = 1
    batches, microscope = training.batches(data), Microscope(training, data)
    runs = {"without": epoch(training, batches), "observed": epoch(training, batches, microscope)}
    return training, runs, microscope


def test_the_guide_says_what_was_measured():
    record = json.loads((ROOT / "benchmarks/results/microscope.jsonl").read_text())
    without, observed = (np.array(record["figures"][name]) for name in ("without", "observed"))
    quartiles = 100 * np.quantile(observed / without - 1, (0.25, 0.5, 0.75))
    guide = (ROOT / "docs/guide.md").read_text()
    assert (
        "an epoch of {steps} steps takes".format(**record["settings"]) in guide and f"{len(without)}\n  rounds" in guide
    )
    low, middle, high = (f"{value:.1f}" for value in quartiles)
    assert f"takes {middle} % longer" in guide and f"quartiles are {low} % and {high} %" in guide


@pytest.mark.deeper
def test_epochs_are_compared(measured):
    training, runs, microscope = measured
    check_outputs(training, runs, microscope)
    assert microscope.path.is_file() and microscope.observations.epochs == (1,)
    filters, step = training.network.variables["conv1/filters"], runs["observed"]

    def disturbed():
        step()
        filters.assign_add(1e-3 + 0 * filters)

    with pytest.raises(ValueError, match="ends with other variables"):
        check_outputs(training, {**runs, "observed": disturbed}, microscope)
    microscope.look = lambda: None
    with pytest.raises(ValueError, match="no row of finite values"):
        check_outputs(training, runs, microscope)
