"""A process that is watched over: started again, and asked to stop at any moment. The command is a line of Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rawcnn.cli import supervise

FAILS = "raise SystemExit(1)"


@pytest.fixture
def command(monkeypatch):
    """Sets what is run: as if this process had been started with it."""
    return lambda code: monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", code])


def test_restarts_that_are_used_up_are_told(command, monkeypatch):
    monkeypatch.setattr(supervise, "RESTART_PAUSE", 0.0)
    command(FAILS)
    told: list[str] = []
    assert supervise.run_supervised(1, 60, told.append) == 1
    assert [line for line in told if "worker is process" not in line] == [
        "the worker ended with code 1; restarting it (1 of 1)",
        "the worker ended with code 1 and is not restarted: all 1 restarts are used up",
    ]


@pytest.mark.parametrize("code", [0, 2, 130, 141])
def test_who_ended_by_itself_is_not_started_again(command, code):
    """Done, wrong input, Ctrl-C, or nobody reads what it says: the next one would end as this did."""
    command(f"raise SystemExit({code})")
    told: list[str] = []
    assert supervise.run_supervised(3, 60, told.append) == code
    assert len(told) == 1 and "worker is process" in told[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_between_two_workers(command, monkeypatch, number):
    """None is there whom a signal could be handed on to."""
    monkeypatch.setattr(supervise, "RESTART_PAUSE", 1.0)
    command(FAILS)
    told: list[str] = []

    def tell(line):
        told.append(line)
        if "restarting it" in line:
            threading.Timer(0.3, os.kill, (os.getpid(), number)).start()

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            supervise.run_supervised(3, 60, tell)
    else:
        assert supervise.run_supervised(3, 60, tell) == 0
        assert told[-1] == "stopped on request; run the same command again to resume from the last checkpoint"
    assert sum("worker is process" in line for line in told) == 1
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_asked_to_stop_while_a_worker_is_started(command, monkeypatch):
    """Its process is there, but not known yet."""
    real = subprocess.Popen

    def asked(*words, **settings):
        process = real(*words, **settings)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(supervise.subprocess, "Popen", asked)
    command("import time; time.sleep(600)")
    told: list[str] = []
    start = time.monotonic()
    assert supervise.run_supervised(3, 500, told.append) == 0
    assert told[-1] == "stopped on request before the training started" and time.monotonic() - start < 60
