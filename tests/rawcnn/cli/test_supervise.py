"""A supervised process restarts, and stops on request at any moment. Its command is a line of Python."""

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
    """Set the command with which this process was apparently started."""
    return lambda code: monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", code])


def test_used_up_restarts_are_reported(command, monkeypatch):
    monkeypatch.setattr(supervise, "RESTART_PAUSE", 0.0)
    command(FAILS)
    lines: list[str] = []
    assert supervise.run_supervised(1, 60, lines.append) == 1
    assert [line for line in lines if "worker is process" not in line] == [
        "the worker ended with code 1; restarting it (1 of 1)",
        "the worker ended with code 1 and is not restarted: all 1 restarts are used up",
    ]


@pytest.mark.parametrize("code", [0, 2, 130, 141])
def test_a_final_exit_code_is_not_followed_by_a_restart(command, code):
    """Success, bad input, Ctrl-C and a closed pipe: another process would end in the same way."""
    command(f"raise SystemExit({code})")
    lines: list[str] = []
    assert supervise.run_supervised(3, 60, lines.append) == code
    assert len(lines) == 1 and "worker is process" in lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_between_two_workers(command, monkeypatch, number):
    """No worker is running that could receive the signal."""
    monkeypatch.setattr(supervise, "RESTART_PAUSE", 1.0)
    command(FAILS)
    lines: list[str] = []

    def report(line):
        lines.append(line)
        if "restarting it" in line:
            threading.Timer(0.3, os.kill, (os.getpid(), number)).start()

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            supervise.run_supervised(3, 60, report)
    else:
        assert supervise.run_supervised(3, 60, report) == 0
        assert lines[-1] == "stopped on request; run the same command again to resume from the last checkpoint"
    assert sum("worker is process" in line for line in lines) == 1
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_stop_while_a_worker_starts(command, monkeypatch):
    """Its process exists, but the supervisor does not know it yet."""
    real = subprocess.Popen

    def popen(*words, **settings):
        process = real(*words, **settings)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(supervise.subprocess, "Popen", popen)
    command("import time; time.sleep(600)")
    lines: list[str] = []
    start = time.monotonic()
    assert supervise.run_supervised(3, 500, lines.append) == 0
    assert lines[-1] == "stopped on request before the training started" and time.monotonic() - start < 60
