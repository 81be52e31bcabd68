"""The schedules of the learning rate at their corners."""

from __future__ import annotations

import dataclasses
import math

import pytest

from rawcnn.optim.schedules import Constant, OnPlateau, Plateau, Step, WarmUp


def test_warm_up_is_a_line_then_the_schedule():
    schedule = WarmUp(Step(at=(0.5,)), length=4)
    assert [schedule(e, 20) for e in (0, 1, 3, 4, 9.9, 10)] == pytest.approx([0, 0.25, 0.75, 1, 1, 0.1])
    assert WarmUp(OnPlateau(), length=1)(2, 10, 1) == pytest.approx(0.1)  # the drops go through
    assert Constant()(3.5, 10) == 1


def test_plateau_counts_drops():
    plateau, drops = Plateau(patience=2), []
    for error in (0.9, 0.5, 0.5, 0.6, 0.49, 0.4899, math.nan, 0.3, 0.3, 0.3):
        plateau = plateau.observe(error)
        drops.append(plateau.drops)
    assert drops == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert plateau.best == 0.3
    assert Plateau(**dataclasses.asdict(plateau)) == plateau
