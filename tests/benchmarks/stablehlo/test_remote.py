"""Objects in separate processes, and all ways in which such a process can fail."""

import pytest

from benchmarks.stablehlo.remote import Gone, Remote
from tests.benchmarks import remotes


@pytest.fixture
def remote():
    made = Remote(remotes.answering)
    assert made.wait(60) >= 0
    yield made
    made.end()


def test_methods_are_called_there(remote):
    assert remote.call("it", "run", 3) == 3
    assert remote.call("it", "first").shape == (4, 10)


def test_what_fails_is_told_in_a_line_and_the_process_goes_on(remote):
    with pytest.raises(Gone, match=r"^ValueError: no such luck$"):
        remote.call("it", "fail")
    assert remote.call("it", "run", 2) == 2


def test_who_takes_too_long_is_ended(remote):
    with pytest.raises(Gone, match=r"no answer within 0 s"):
        remote.call("it", "sleep", within=0.2)
    with pytest.raises(Gone, match=r"its process ended"):
        remote.call("it", "run", 1)


def test_a_process_that_dies(remote):
    with pytest.raises(Gone, match=r"its process ended"):
        remote.call("it", "die")


def test_what_cannot_be_made():
    made = Remote(remotes.broken)
    with pytest.raises(Gone, match=r"^ZeroDivisionError: division by zero$"):
        made.wait(60)
    made.end()
