"""Shared configuration of the tests: TensorFlow's log level, the selection of tests, and folders of real images."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from rawcnn.cli import main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# glibc reads these when a process starts, so they apply to pytest-xdist's processes: memory of large tensors is
# returned when they are freed.
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**22))
# oneDNN's allocator keeps what tensors once took, for the next tensors: two processes would each keep 4 GiB.
os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")

# A separate cache, so that the user's table of kernels and the user's notes about files have no effect. Plots keep the
# user's cache of fonts.
cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("MPLCONFIGDIR", str(cache / "matplotlib"))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="rawcnn-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

COLLECTED = pytest.StashKey[list[pytest.Item]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --allowed-skips: .ci/run and .ci/full fail on a skip whose reason is not in a list."""
    parser.addoption(
        "--allowed-skips",
        metavar="FILE",
        help="fail if a test is skipped for a reason that no regular expression in this file describes",
    )


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the skips that are not allowed, and fail."""
    config = terminalreporter.config
    if not config.getoption("--allowed-skips"):
        return
    lines = Path(config.getoption("--allowed-skips")).read_text(encoding="utf-8").splitlines()
    allowed = [re.compile(line) for line in lines if line and not line.startswith("#")]
    reasons = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", []))
    others = {reason: n for reason, n in reasons.items() if not any(one.fullmatch(reason) for one in allowed)}
    for reason, count in others.items():
        terminalreporter.write_line(f"{count} tests are skipped, which is not allowed here: {reason}", red=True)
    if others and terminalreporter._session.exitstatus == pytest.ExitCode.OK:
        terminalreporter._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def reason_of(report) -> str:
    """The reason of a skipped test or file, without pytest's word in front."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return " ".join(reason.removeprefix("Skipped: ").split())


def pytest_configure(config: pytest.Config) -> None:
    """Run a test that is named by its id (`file.py::test`) also if it is slow or deeper, unless -m is given."""
    words = [str(word) for word in config.invocation_params.args]
    if any("::" in word for word in words) and not any(word.startswith("-m") for word in words):
        config.option.markexpr = ""
    # pytest-xdist's controlling process runs no test, so it saves TensorFlow's memory.
    if config.getoption("dist", "no") == "no":
        split_processor()


def split_processor() -> None:
    """Set up two logical devices, to test splitting a network over devices on any machine."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two processes for whole folders; one for single files, where starting TensorFlow twice would take longer."""
    return 0 if any(".py" in word for word in map(str, config.invocation_params.args)) else 2


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as deeper the cases that a `sample` mark leaves out."""
    seen: Counter[str] = Counter()
    for item in items:
        sample = item.get_closest_marker("sample")
        if sample is None or not hasattr(item, "callspec"):
            continue
        function = item.nodeid.partition("[")[0]
        place = seen[function]
        seen[function] += 1
        if isinstance(sample.args[0], int):
            selected = place % sample.args[0] == 0
        else:
            selected = any(re.search(pattern, item.callspec.id) for pattern in sample.args)
        if not selected:
            item.add_marker("deeper")
    if items:
        items[0].config.stash[COLLECTED] = list(items)


def pytest_collection_finish() -> None:
    free_memory()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None):
    """Free memory after each file, when pytest has dropped the arguments of its last test, too."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        free_memory()
    return result


def free_memory() -> None:
    """Collect garbage, and return free memory, because glibc otherwise keeps the pages of large networks.

    What is left (modules, collected tests, fixtures of the session) is excluded from later collections. Scanning it
    would take seconds each time.
    """
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def collected(pytestconfig) -> list[pytest.Item]:
    """All tests of this run, before `-m` or `-k` selects some."""
    return pytestconfig.stash[COLLECTED]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images and weights: $RAWCNN_DATA, or shared/data next to the project."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("RAWCNN_DATA", root.parent / "shared" / "data"))
    if not (folder / "cifar10-jpeg.zip").is_file():
        pytest.skip(f"needs real images: {folder} has no cifar10-jpeg.zip; set RAWCNN_DATA to a folder that has it")
    return folder


@pytest.fixture(scope="session")
def cifar10_folder(data_folder, tmp_path_factory) -> Path:
    """CIFAR-10 as JPEG files, cifar10/{train,test}/{class}/NNNN.jpg, unpacked once."""
    folder = tmp_path_factory.mktemp("cifar")
    with zipfile.ZipFile(data_folder / "cifar10-jpeg.zip") as archive:
        archive.extractall(folder)
    return folder / "cifar10"


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's handwritten digits, 8×8."""
    from rawcnn.data import load

    return load("digits")


@pytest.fixture
def rawcnn_command(capsys):
    """Run the command line in this process; return (exit code, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run
