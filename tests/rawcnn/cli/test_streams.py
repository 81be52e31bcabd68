"""Output to a closed pipe, to a full disk, or to a stream that was closed from the start."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys

import pytest

from rawcnn.cli.console import fail
from rawcnn.cli.streams import CLOSED_PIPE, OutputFailed, ReaderClosed, checked_streams

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
EPOCHS = 8
COMMAND = [sys.executable, "-m", "rawcnn"]
TRAIN = ("train", "cifar_resnet20", "--size", "8", "--batch", "512", "--epochs", str(EPOCHS), "--json", "--output")
VERBS = {
    "rows": ("profile", "cifar_resnet20"),
    "json": ("profile", "cifar_resnet20", "--json"),
    "unflushed": ("weights", "show", "WEIGHTS", "--json"),
    "help": ("profile", "--help"),
    "nothing": (),
}


@pytest.fixture(params=[pytest.param(words, id=name) for name, words in VERBS.items()])
def words(request, digits_weights):
    return [str(digits_weights) if word == "WEIGHTS" else word for word in request.param]


def into_a_closed_pipe(*words, stderr: bool = False) -> tuple[int, str]:
    """Return the exit code and the text on stderr; empty if stderr is the closed pipe, too."""
    there, here = os.pipe()
    os.close(there)
    try:
        done = subprocess.run([*COMMAND, *words], stdout=here, stderr=here if stderr else subprocess.PIPE)
    finally:
        os.close(here)
    return done.returncode, (done.stderr or b"").decode()


@pytest.mark.sample("rows")  # written at once
def test_a_closed_pipe_ends_any_verb_without_a_message(words):
    code, message = into_a_closed_pipe(*words)
    assert code == CLOSED_PIPE and "rawcnn:" not in message and "Error" not in message, message


@pytest.mark.deeper
def test_both_streams_closed():
    assert into_a_closed_pipe("profile", "cifar_resnet20", stderr=True)[0] == CLOSED_PIPE
    assert into_a_closed_pipe("fly", stderr=True)[0] == 2  # the message is lost, but not the exit code


@pytest.mark.sample("unflushed")  # written at the end of the program
def test_a_full_disk_behind_stdout_is_a_line(words):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "Error" not in done.stderr, done.stderr
    line = "rawcnn: stdout cannot be written: no space left on device; free some space, or redirect it elsewhere"
    assert done.stderr.splitlines()[-1] == line


@pytest.mark.deeper
def test_a_full_disk_behind_stderr_keeps_the_code():
    with open("/dev/full", "w") as full:
        assert subprocess.run([*COMMAND, "fly"], stderr=full).returncode == 2


@pytest.mark.deeper
@pytest.mark.parametrize("which", [">&-", ">&- 2>&-", "<&-", "2>&-"])
def test_streams_that_were_closed_from_the_start(digits_weights, which):
    """Python has no stdout or stderr then, and the next files that it opens would get their descriptors."""
    line = f"exec {' '.join(COMMAND)} weights show {digits_weights} {which}"
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    assert ("conv1/filters" in done.stdout) == (not which.startswith(">&-"))


@pytest.mark.slow
def test_a_training_with_a_closed_pipe_ends_and_loses_nothing(tmp_path):
    """`| head -1` closes the pipe: an epoch is saved before it is reported, and the same command resumes after it."""
    with subprocess.Popen(
        [*COMMAND, *TRAIN, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout and run.stderr and json.loads(run.stdout.readline())["epoch"] == 1
        run.stdout.close()
        message = run.stderr.read()
        assert run.wait() == CLOSED_PIPE and "rawcnn:" not in message and "Error" not in message, message
    history = json.loads((tmp_path / "history.json").read_text())
    done = history[-1]["epoch"]
    assert message.count("cifar_resnet20 epoch") == done < EPOCHS
    again = subprocess.run([*COMMAND, *TRAIN, tmp_path], capture_output=True, text=True)
    assert again.returncode == 0 and f"resuming after epoch {done}" in again.stderr, again.stderr
    assert json.loads((tmp_path / "history.json").read_text())[:done] == history


@pytest.mark.slow
def test_a_training_whose_output_has_no_room(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *TRAIN, tmp_path], stdout=full, stderr=subprocess.PIPE, text=True)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and last.startswith("rawcnn: stdout cannot be written: no space left on device; ")
    assert last.endswith("; run the same command again to resume from its last checkpoint")
    assert json.loads((tmp_path / "history.json").read_text())[-1]["epoch"] == 1


class Refusing(io.StringIO):
    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def write(self, _: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    "number, kind, message",
    [
        (errno.EPIPE, ReaderClosed, "the reader of stdout closed the pipe"),
        (errno.EIO, OutputFailed, "stdout cannot be written: input/output error; redirect it elsewhere"),
        (errno.EDQUOT, OutputFailed, "disk quota exceeded; free some space, or redirect it elsewhere"),
    ],
)
def test_errors_of_the_streams_have_their_own_type(monkeypatch, number, kind, message):
    monkeypatch.setattr(sys, "stdout", Refusing(number))
    with checked_streams(), pytest.raises(kind, match=message):
        print("anything")
    monkeypatch.setattr(sys, "stderr", Refusing(number))
    with checked_streams():
        fail("this message is lost")


def test_names_that_a_stream_cannot_encode(monkeypatch):
    """A file's name may hold bytes that are no text; they are printed as escapes."""
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding="utf-8", write_through=True))
    with checked_streams():
        print("wrote \udcff.png")
    assert file.getvalue() == b"wrote \\udcff.png\n"
