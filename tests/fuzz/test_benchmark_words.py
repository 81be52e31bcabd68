"""Hostile words for each kind of `rawcnn benchmark`: each command ends with 0, or with one line and 2.

No race is run: a command ends where its work would start.
"""

from __future__ import annotations

import numpy as np
import pytest
import typer

from rawcnn.cli.benchmarks import app
from tests.fuzz.test_command_line import HOSTILE, Enough, check, command  # noqa: F401  (a fixture)

KINDS = typer.main.get_command(app).commands
WORK = (
    *(f"benchmarks.run.{name}" for name in ("run", "run_memory", "run_scale", "run_kernels", "run_visualizations")),
    "benchmarks.run.run_attacks",
    "benchmarks.run.run_gradients",
    "benchmarks.tune.tune",
    "benchmarks.measurements.build.run_builds",
    "benchmarks.measurements.growth.grow",
)
NETWORKS = ("small", "resnet50", "alexnet", "pgd")  # some of which each kind accepts


def words(seed: int) -> list[str]:
    """Return a kind, or none, with a network and some options whose values are hostile."""
    generator = np.random.default_rng(seed)
    kind = list(KINDS)[seed % len(KINDS)]
    options = [p for p in KINDS[kind].params if p.param_type_name == "option" and "--help" not in p.opts]
    found = [str(generator.choice(NETWORKS if generator.random() < 0.7 else HOSTILE))]
    for k in generator.permutation(len(options))[: int(generator.integers(0, 4))]:
        found += [options[k].opts[0], *([] if options[k].is_flag else [str(generator.choice(HOSTILE))])]
    return [*([] if kind == "networks" and generator.random() < 0.5 else [kind]), *found]


@pytest.mark.sample(3)
@pytest.mark.parametrize("seed", range(80))
def test_wrong_words(command, tmp_path, monkeypatch, seed):  # noqa: F811
    def enough(*_, **__):
        raise Enough("the words were right")

    for function in WORK:
        monkeypatch.setattr(function, enough)
    check(["benchmark", *words(seed)], command, tmp_path)
