"""The learning-rate range test: rates, smoothing, divergence, suggestion, and what it leaves untouched."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

from rawcnn.training.rate_range import WARM_UP, diverges, find_rate, smooth, suggest
from tests.rawcnn import small
from tests.rawcnn.runs import RECIPE

RATES = [10 ** (-6 + 7 * number / 99) for number in range(100)]


def test_smoothing_against_a_sum():
    """mₜ = Σ (1 − β)·βᵗ⁻ⁱ·Lᵢ / (1 − βᵗ), term by term."""
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    for number, value in enumerate(smooth(losses), start=1):
        weights = [0.1 * 0.9 ** (number - i) for i in range(1, number + 1)]
        expected = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / (1 - 0.9**number)
        assert value == pytest.approx(expected)
    assert smooth([2.0] * 30) == pytest.approx([2.0] * 30)


def test_divergence():
    fallen = [4.0] * WARM_UP + [1.0]
    assert not diverges([*fallen, 1.5]) and diverges([*fallen, 1.7])  # a fifth of the fall of 3 is 0.6
    assert not diverges([4.0] * WARM_UP + [7.9]) and diverges([4.0] * WARM_UP + [8.1])  # no fall: doubled
    assert diverges([math.nan]) and diverges([4.0, math.inf]) and not diverges([1.0, 100.0])  # before the warm-up


def test_the_suggestion_is_a_third_of_the_rate_of_the_lowest_loss():
    losses = [4.0] * 40 + [4 - 0.1 * n for n in range(30)] + [1.1 + 0.2 * n for n in range(12)]
    rate, reason = suggest(RATES, losses)
    assert rate == pytest.approx(RATES[69] / 3)
    assert reason.startswith("the smoothed loss falls from 4 to its lowest, 1.1, at 0.076, and diverges at 0.53;")
    rate, reason = suggest(RATES, [4.0] * 100)
    assert rate is None and reason == "no rate lowers the smoothed loss by 5% or more, and it does not diverge up to 10"
    rate, reason = suggest(RATES, [math.nan])
    assert rate is None and reason.endswith("and it diverges at 1e-06")


@pytest.fixture(scope="module")
def found(digits):
    data, network = small.part(digits, 256, 64), small.network(seed=5)
    before = {path: v.numpy() for path, v in network.variables.items()}
    recipe = dataclasses.replace(RECIPE, batch=32)
    found = find_rate(network, recipe, data, highest=1e4, steps=60)
    for path, value in before.items():  # a copy is trained
        np.testing.assert_array_equal(network.variables[path], value, path)
    return found


@pytest.mark.deeper
def test_rates_rise_exponentially_until_the_loss_diverges(found):
    factors = np.divide(found.rates[1:], found.rates[:-1])
    assert found.rates[0] == pytest.approx(1e-6) and factors == pytest.approx([(1e10) ** (1 / 59)] * len(factors))
    assert len(found.rates) == len(found.losses) == len(found.smoothed) < 60
    assert diverges(found.smoothed) and not diverges(found.smoothed[:-1])
    assert found.smoothed == pytest.approx(smooth(found.losses), nan_ok=True)


@pytest.mark.deeper
def test_the_suggested_rate_is_useful(found):
    assert 1e-3 < found.suggestion < 10 and "diverges at" in found.reason


@pytest.mark.sample(3)
@pytest.mark.parametrize("range", [{"lowest": 0}, {"lowest": 1, "highest": 0.1}, {"highest": math.inf}, {"steps": 1}])
def test_a_range_that_is_none_is_refused(digits, range):
    with pytest.raises(ValueError, match="are no range; expected 0 < lowest < highest"):
        find_rate(small.network(), RECIPE, digits, **range)


@pytest.mark.deeper
def test_the_command_line_finds_a_rate_and_leaves_the_run(rawcnn_command, small_run):
    """In the folder of a run: checkpoints, history and weights stay; the suggestion is in the JSON and the file."""

    def files():
        paths = [
            path for path in small_run.rglob("*") if path.is_file() and path.name not in ("rates.png", "rates.json")
        ]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    before = files()
    words = ("train", "cifar_resnet20", "--find-rate", "--batch", 256, "--output", small_run, "--json")
    code, out, err = rawcnn_command(*words)
    assert code == 0 and files() == before, err
    result = json.loads(out)
    assert result == json.loads((small_run / "rates.json").read_text())
    assert len(result["rates"]) == len(result["losses"]) and (small_run / "rates.png").stat().st_size
    assert "because" in err and ("suggested: --rate" in err or "no suggestion" in err)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "others, message",
    [
        (("--rate", 0.1), "--find-rate tries all rates; leave --rate out"),
        (("--epochs", 3, "--fresh"), "--find-rate does not train a run; leave --epochs and --fresh out"),
        (("--microscope",), "leave --microscope out"),
        (("--images", "--trace"), "leave --images and --trace out"),
        (("--profile-input",), "leave --profile-input out"),
        (("--strategy", "mirrored"), "--find-rate measures a single device; leave --strategy out"),
        (("--strategy", "multiworker"), "--find-rate measures a single device; leave --strategy out"),
        (("--replicas", 2), "--replicas belongs to --strategy mirrored"),
        (("--gradients", "numeric"), "expected 'tape' or 'hand'"),
        (("--batch", 5000), "fewer than a batch of 5000"),
    ],
)
def test_options_that_do_not_fit_are_refused(rawcnn_command, tmp_path, others, message):
    code, out, err = rawcnn_command("train", "cifar_resnet20", "--find-rate", "--output", tmp_path / "run", *others)
    *_, last = err.strip().splitlines()
    assert code == 2 and not out and message in last and last.startswith("rawcnn: ") and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_the_microscope_needs_a_training(rawcnn_command, tmp_path):
    code, _, err = rawcnn_command(
        "train", "cifar_resnet20", "--microscope", "--profile-input", "--output", tmp_path / "r"
    )
    assert code == 2 and "--profile-input trains nothing that --microscope could measure" in err
