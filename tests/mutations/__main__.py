"""Put one fault at a time into a copy of the project and report which tests catch it.

    python -m tests.mutations              # all faults of faults.py
    python -m tests.mutations senet lock   # those whose names contain one of these words
    python -m tests.mutations --jobs 2     # two at a time

TensorFlow is imported once. Each fault then has a process of its own, forked from this one, that imports the project
from its copy and runs the tests that faults.py names, until the first fails. A fault is caught if a test fails; that
the tests pass without a fault is what every other run of them shows. The exit code is 1 if a fault survives.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutations.faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[2]
OURS = ("tests", "rawcnn", "kernels", "benchmarks", "onednn")  # what a copy has of its own
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", ".mypy_cache", ".ruff_cache", ".pytest_cache")
FAILED = 1  # pytest's exit code if a test fails; others say that nothing was tested
SECONDS = 900  # after which a fault counts as one that hangs the tests, and so as caught


def main() -> int:
    """Run the faults that the command line names, and print a line for each and a table of the survivors."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="parts of names of faults; all faults by default")
    parser.add_argument("--jobs", type=int, default=1, help="how many faults run at a time (1)")
    options = parser.parse_args()
    chosen = [f for f in FAULTS if not options.words or any(word in f.name for word in options.words)]
    import_once()
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(tried, chosen))
    survivors = [fault for fault, result in zip(chosen, results, strict=True) if result is None]
    print(f"\n{len(chosen) - len(survivors)} of {len(chosen)} faults are caught")
    for fault in survivors:
        print(f"survived: {fault.name} ({fault.file}; {' '.join(fault.tests)})")
    return 1 if survivors else 0


def import_once() -> None:
    """Import what takes long and has no copy. rawcnn comes first, because it sets up TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import keras  # noqa: F401

    import rawcnn  # noqa: F401


def tried(fault: Fault) -> str | None:
    """Run the tests of a fault, print the result, and return the test that caught it; None if it survives."""
    start = time.monotonic()
    with TemporaryDirectory(prefix="mutation-") as name:
        folder, log = Path(name, "copy"), Path(name, "log")
        shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
        fault.apply(folder)
        process = multiprocessing.get_context("fork").Process(target=run_tests, args=(folder, log, fault.tests))
        process.start()
        process.join(SECONDS)
        hangs = process.is_alive()
        if hangs:
            process.kill()
            process.join()
        found = re.findall(r"^(?:FAILED|ERROR) (\S+)", log.read_text(errors="replace"), re.MULTILINE)
        if not hangs and process.exitcode not in (0, FAILED, 2):
            raise SystemExit(f"{fault.name}: pytest ended with {process.exitcode}\n{log.read_text(errors='replace')}")
    caught = (found or ["no answer"])[0] if hangs or process.exitcode else None
    print(f"{'caught  ' if caught else 'SURVIVED'} {time.monotonic() - start:4.0f} s  {fault.name}", flush=True)
    if caught:
        print(f"                 by {caught}", flush=True)
    return caught


def run_tests(folder: Path, log: Path, words: tuple[str, ...]) -> None:
    """Run pytest in a copy of the project, in this process. Its output goes to `log`."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    os.chdir(folder)
    sys.path[:] = [str(folder), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    os.environ["PYTHONPATH"] = str(folder)
    import pytest

    os._exit(int(pytest.main(["-x", "-q", "-n0", "-p", "no:cacheprovider", *words])))


if __name__ == "__main__":
    sys.exit(main())
