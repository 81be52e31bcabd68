"""The command line: each verb collects its options into a request, calls one function and shows the result.

TensorFlow is imported inside the functions, so that `rawcnn --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from rawcnn.cli import (
    attack,
    benchmarks,
    data,
    evaluate,
    exercise,
    explain,
    export,
    paper,
    profile,
    tour,
    train,
    visualize,
    weights,
)
from rawcnn.cli.console import fail, interrupts
from rawcnn.cli.streams import CLOSED_PIPE, OutputFailed, ReaderClosed, checked_streams

EXPECTED_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)  # printed as a line; any other is a fault of rawcnn
FAILED = 2
INTERRUPTED = 130  # the exit code that a shell reports after Ctrl-C

app = typer.Typer(
    help="Layers, gradients, visualizations and attacks of the classic CNN papers in plain TensorFlow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    tour.tour,
    profile.models,
    profile.profile,
    paper.paper,
    explain.explain,
    train.train,
    evaluate.evaluate,
    evaluate.predict,
    export.export,
    attack.attack,
):
    app.command()(verb)
groups = {"benchmark": benchmarks, "visualize": visualize, "exercise": exercise, "weights": weights, "data": data}
for name, group in groups.items():
    app.add_typer(group.app, name=name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The exit code is 0 after success, 2 after bad input or a failed run, which is one line on stderr, 130 after Ctrl-C,
    and 141, without a message, where the reader of the output closed the pipe.

    Args:
        arguments: The words after `rawcnn`; None: those of this process.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    words = list(sys.argv[1:] if arguments is None else arguments)
    with checked_streams():
        try:
            code = _run(words)
            sys.stdout.flush()  # an error of a later flush would not be reported
        except ReaderClosed:
            code = CLOSED_PIPE
        except OutputFailed as error:
            fail(f"{error}{_resume_hint(words)}")
            code = FAILED
    sys.exit(code)


def _run(words: list[str]) -> int:
    """Run a command and return its exit code; OutputFailed passes through."""
    try:
        if words and words[0] != "models" and not {"-h", "--help"} & set(words):  # these need no TensorFlow
            _import_tensorflow()
        with interrupts.remembered():
            code = app(words, standalone_mode=False)
        if code == INTERRUPTED:  # Typer catches Ctrl-C itself
            raise KeyboardInterrupt
        return code or 0
    except (KeyboardInterrupt, typer.Abort):
        fail(f"stopped{_resume_hint(words)}")
        return INTERRUPTED
    except OutputFailed:
        raise
    except Exception as error:
        return _report_error(error)


def _import_tensorflow() -> None:
    """Import TensorFlow without its messages; its C++ part writes to stderr whatever the log level is."""
    with _silent_stderr():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")  # compiling a network again for another picture is not a reason for a warning


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what any part of this process writes to stderr within the block."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def _report_error(error: Exception) -> int:
    """Print an error as one line and return the exit code; raise it again if it is a fault of rawcnn."""
    usage = getattr(error, "format_message", None)  # an error of Typer's, about words that it does not accept
    if type(error).__name__ == "NoArgsIsHelpError" and usage:
        print(usage())
        return 0
    expected = usage or isinstance(error, EXPECTED_ERRORS) or _is_memory_error(error)
    if os.environ.get("RAWCNN_DEBUG") or not expected:
        raise error
    fail(f"{_usage(error)} (see {_verb(error)} --help)" if usage else _message(error))
    return getattr(error, "exit_code", FAILED) if isinstance(error, RuntimeError) else FAILED


def _resume_hint(words: Sequence[str]) -> str:
    """Return what an interrupted command does when it is run again; empty if it starts from the beginning."""
    command = " ".join(words)
    if command.startswith("train") or (command.startswith("attack evolve") and "encoding=gradient" not in words):
        return "; run the same command again to resume from its last checkpoint"
    has_journal = command.startswith("evaluate") and any(word.split("=")[0] == "--output" for word in words)
    if has_journal or (command.startswith(("attack", "data pack")) and "evolve" not in words):
        return "; run the same command again to resume"
    return ""


def _usage(error: Any) -> str:
    """Return what Typer says about wrong words; after an unknown command, with the list of commands."""
    text = error.format_message()
    commands = getattr(getattr(getattr(error, "ctx", None), "command", None), "commands", {})
    if text.startswith("No such command") and text.endswith("'."):  # it may name a similar command instead
        return f"{text.removesuffix('.')}; the commands are {', '.join(commands)}"
    return text


def _verb(error: Exception) -> str:
    """Return the command whose words were wrong, such as `rawcnn visualize optimize`."""
    context, names = getattr(error, "ctx", None), list[str]()
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(["rawcnn", *names])


def _is_memory_error(error: Exception) -> bool:
    """Return whether Python or TensorFlow ran out of memory."""
    tf = sys.modules.get("tensorflow")
    return isinstance(error, MemoryError) or (tf is not None and isinstance(error, tf.errors.ResourceExhaustedError))


def _message(error: Exception) -> object:
    """Return the message of an error on one line; the system's errors are put into words, with a remedy."""
    if _is_memory_error(error):
        first_line = (str(getattr(error, "message", error)).splitlines() or [""])[0]
        detail = f" ({first_line})" if first_line else ""
        return f"there is not enough memory{detail}; choose a smaller network, size or batch"
    if isinstance(error, OSError) and error.filename and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and run the same command again" if full else "name another path"
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}; {remedy}"
    return error
