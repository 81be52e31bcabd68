"""pytest-benchmark: the forms of each kernel, one group per (kernel, shape, job, precision).

`pytest benchmarks --benchmark-only` measures small shapes, with `--full` those of the networks.
`pytest benchmarks --benchmark-disable` only checks that all forms run and agree.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.races.kernels import CASES, JOBS, MODES, SMALL_CASES, KernelCase, compare, contestants, forms


def pytest_generate_tests(metafunc):
    full = metafunc.config.getoption("--full")
    races = [
        (case, job, precision, f"{form} {mode}")
        for case in (CASES if full else SMALL_CASES)
        for job in JOBS
        for precision in (("float32", "bfloat16") if full else ("float32",))
        for form in forms(case)
        for mode in MODES
    ]
    metafunc.parametrize("case, job, precision, name", races, ids=lambda value: str(value).replace(" ", "-"))


@lru_cache(maxsize=1)  # tests of one group follow each other
def calls(case: KernelCase, job: str, precision: str):
    """Return the calls of the group, the operations of one call, and the results of the first call."""
    made, flops = contestants(case, job, precision)
    return made, flops, arrays(next(iter(made.values()))())


def arrays(results) -> list[np.ndarray]:
    return [tf.cast(result, tf.float32).numpy() for result in results]


@pytest.mark.filterwarnings("ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
def test_form(benchmark, case, job, precision, name):
    made, flops, expected = calls(case, job, precision)
    compare(case, name, precision, expected, arrays(made[name]()))
    benchmark.group = f"{case} {job} {precision}"
    benchmark.extra_info["flops"] = flops
    benchmark.pedantic(made[name], rounds=10, warmup_rounds=1)
