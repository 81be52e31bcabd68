"""The learning-rate range test: rates, smoothing, divergence, suggestion, and what it leaves untouched."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import rawcnn
from rawcnn.training.rate_range import WARM_UP, chance, diverges, find_rate, smooth, suggest
from rawcnn.training.recipes import find_recipe
from rawcnn.training.trainer import Training
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


def losses_on(curve: Callable[[float], float], noise: float = 0.0, seed: int = 0) -> list[float]:
    """The losses of a range test, if the loss is a function of the step, from 0 to 99, and of the batch."""
    generator, losses = np.random.default_rng(seed), []
    for step in range(len(RATES)):
        losses.append(curve(step) + noise * float(generator.normal()))
        if diverges(losses):
            break
    return losses


def valley(step: float) -> float:
    """From 2.3 down to 0.5 at step 75, a rate of 0.2, then steeply up."""
    return 2.3 - 1.8 * max(0, min(1, (step - 40) / 35)) + (0.02 * (step - 75) ** 2 if step > 75 else 0)


def test_a_valley():
    """The test ends soon after the lowest loss; the suggestion is below that rate, by less than a factor of ten."""
    losses = losses_on(valley)
    assert 76 < len(losses) < 95 and diverges(losses)
    rate, reason = suggest(RATES, losses)
    assert rate is not None and RATES[75] / 10 < rate < RATES[75]
    assert "diverges at" in reason and reason.endswith("because there the loss is about to rise")


@pytest.mark.parametrize("noise", [0.1, 0.3, 0.5])
def test_noise_ends_no_test_and_moves_no_suggestion_far(noise):
    """Losses of small batches, whose standard deviation is up to a fifth of the first loss."""
    for seed in range(15):
        losses = losses_on(valley, noise, seed)
        assert len(losses) > 70, (seed, len(losses))
        rate, _ = suggest(RATES, losses)
        assert rate is not None and RATES[75] / 10 < rate < 1.5 * RATES[75], (seed, rate)


def test_noise_at_the_bottom_of_a_valley_ends_no_test():
    """A small fall to a wide bottom, on which the average varies by more than a fifth of the fall."""
    places, values = [0, 10, 30, 85, 99], [2.3, 2.3, 1.5, 1.5, 9]
    for seed in range(15):
        losses = losses_on(lambda step: float(np.interp(step, places, values)), 0.3, seed)
        rate, _ = suggest(RATES, losses)
        assert len(losses) > 85 and rate is not None and RATES[30] < rate < RATES[85], (seed, len(losses))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 1.0])
def test_a_flat_loss_has_no_suggestion(noise):
    suggestions = []
    for seed in range(15):
        losses = losses_on(lambda step: 2.3, noise, seed)
        rate, reason = suggest(RATES, losses)
        suggestions.append(rate)
        assert len(losses) == 100 and "does not diverge up to 10" in reason, (seed, reason)
    assert suggestions == [None] * 15


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize(
    "rising",
    [
        lambda step: 2.3 * 1.3**step,  # the lowest rate is too large
        lambda step: 2.3 + 20 * min(step / 5, 1),  # to the loss of another, useless network
        lambda step: 2.3 if step < 30 else 2.3 * 1.2 ** (step - 30),  # without a fall before
    ],
    ids=["at-once", "to-a-plateau", "later"],
)
def test_a_rising_loss_ends_the_test(rising, noise):
    losses = losses_on(rising, noise)
    rate, reason = suggest(RATES, losses)
    assert rate is None and len(losses) < 50 and "and it diverges at" in reason


def test_a_fall_from_a_peak_is_none():
    """The loss rises at once, and comes back to where it was: no rate lowered it."""
    assert suggest(RATES, losses_on(lambda step: 2.3 + 30 * step * math.exp(-step / 3)))[0] is None


def test_the_first_of_two_valleys_is_the_suggestion():
    """Behind a real rise the weights are others; a bump of a tenth of the fall does not end the test."""

    def valleys(height: float) -> Callable[[float], float]:
        places, values = [0, 35, 50, 60, 85, 99], [2.3, 2.3, 1.3, 1.3 + height, 0.5, 4]
        return lambda step: float(np.interp(step, places, values))

    rate, _ = suggest(RATES, losses_on(valleys(1.0)))
    assert rate is not None and RATES[50] / 10 < rate < RATES[50]
    rate, _ = suggest(RATES, losses_on(valleys(0.1)))
    assert rate is not None and RATES[85] / 10 < rate < RATES[85]


def test_a_loss_that_only_falls_says_that_a_larger_rate_may_suit():
    rate, reason = suggest(RATES, losses_on(lambda step: 2.3 - 0.01 * step))
    assert rate == pytest.approx(10 / 3) and "does not diverge up to 10" in reason
    assert reason.endswith("the largest that was tried, so a larger one may suit")


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_test(last):
    losses = losses_on(lambda step: valley(step) if step < 70 else last)
    rate, reason = suggest(RATES, losses)
    assert len(losses) == 71 and rate == pytest.approx(RATES[69] / 3) and "diverges at 0.089" in reason
    for first in (0, 5, WARM_UP - 1, WARM_UP):
        losses = losses_on(lambda step, first=first: 2.3 if step < first else last)
        rate, reason = suggest(RATES, losses)
        assert len(losses) == first + 1 and rate is None and f"diverges at {RATES[first]:.2g}" in reason


def test_divergence_without_noise():
    fallen = [4.0] * WARM_UP + [1.0] * 60
    assert not diverges([*fallen, 6.9]) and diverges([*fallen, 7.1])  # a fifth of the fall of 3 is 0.6; β is 0.9
    assert not diverges([4.0] * 30) and not diverges([*[4.0] * 30, 42.0]) and diverges([*[4.0] * 30, 43.0])  # doubled


def test_chance_is_that_of_the_moving_average():
    """Eight standard deviations of it, measured over many steps; a divergence at the end changes it little."""
    losses = 2 + 0.3 * np.random.default_rng(1).normal(size=4000)
    expected = 8 * np.std(smooth(losses.tolist())[100:])
    assert chance(losses.tolist()) == pytest.approx(expected, rel=0.1)
    assert chance([*losses[:100], *(10.0**n for n in range(10)), math.nan]) == pytest.approx(expected, rel=0.4)
    assert chance([1.0]) == 0.0


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
    assert diverges(found.losses) and not diverges(found.losses[:-1])
    assert found.smoothed == pytest.approx(smooth(found.losses), nan_ok=True)


@pytest.mark.deeper
def test_the_suggested_rate_is_useful(found):
    assert 1e-3 < found.suggestion < 10 and "diverges at" in found.reason


@pytest.mark.slow
@pytest.mark.parametrize("batch", [32, 256])
@pytest.mark.parametrize(
    "create", [small.network, partial(rawcnn.create, "cifar_resnet20", classes=10, size=8)], ids=["small", "resnet20"]
)
def test_training_at_the_suggested_rate(digits, create, batch):
    """Three epochs at it end with a lower loss than three epochs at a tenth of it."""
    recipe = dataclasses.replace(find_recipe("digits"), batch=batch, epochs=3)
    rate = find_rate(create(seed=1), recipe, digits).suggestion
    assert rate is not None
    losses = []
    for factor in (1.0, 0.1):
        training = Training(create(seed=1), dataclasses.replace(recipe, rate=factor * rate))
        training.fit(digits)
        losses.append(training.history[-1]["train_loss"])
    assert losses[0] < losses[1]


@pytest.mark.sample(3)
@pytest.mark.parametrize("range", [{"lowest": 0}, {"lowest": 1, "highest": 0.1}, {"highest": math.inf}, {"steps": 19}])
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
