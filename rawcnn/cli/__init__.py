"""The command line: each verb reads its options, calls one function of the package and shows the result.

TensorFlow is imported inside the verbs, so that `rawcnn --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import typer

from rawcnn.cli import (
    attack,
    data,
    files,
    optimized,
    pages,
    pictures,
    race,
    study,
    train,
)
from rawcnn.cli import (
    evaluate as learn,
)
from rawcnn.cli import (
    export as ship,
)
from rawcnn.cli import (
    tour as look,
)
from rawcnn.cli.console import fail, interrupts
from rawcnn.cli.streams import CLOSED, NobodyReads, Unwritten, watched

EXPECTED = (ValueError, OSError, RuntimeError, MemoryError)  # told in a line; others are faults of ours
INTERRUPTED = 130  # what a shell reports of a command that Ctrl-C stopped

app = typer.Typer(
    help="The convolutional network with the lid off.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    look.tour,
    study.models,
    study.profile,
    study.paper,
    train.train,
    learn.evaluate,
    learn.predict,
    ship.export,
    attack.attack,
):
    app.command()(verb)
app.command(epilog=race.HEEDED)(race.benchmark)
visualize = typer.Typer(help="Pictures of what a network looks for.", no_args_is_help=True, rich_markup_mode=None)
PICTURES: dict[str, Callable[..., None]] = {
    "filters": pictures.filters,
    "top-inputs": pictures.top_inputs,
    "deconv": pictures.deconv,
    "saliency": pictures.saliency,
    "optimize": optimized.optimize,
    "building-blocks": pages.building_blocks,
    "atlas": pages.atlas,
    "page": pages.page,
}
for name, picture in PICTURES.items():
    visualize.command(name)(picture)
app.add_typer(visualize, name="visualize")
app.add_typer(files.app, name="weights")
app.add_typer(data.app, name="data")


@contextmanager
def _quiet_stderr():
    """TensorFlow's C++ side writes to stderr while it is imported, whatever the log level: not here."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Bad input and failed runs: one line on stderr, exit code 2; interrupted: 130.

    A pipe that nobody reads any longer ends it without a word, as SIGPIPE does other programs: 141.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    words = list(sys.argv[1:] if arguments is None else arguments)
    with watched():
        try:
            code = _run(words)
            sys.stdout.flush()  # what is written from here on would be lost untold
        except NobodyReads:
            code = CLOSED
        except Unwritten as error:
            fail(f"{error}{_goes_on(words)}")
            code = 2
    sys.exit(code)


def _run(words: list[str]) -> int:
    """What the words ask for → the exit code; Unwritten where it cannot be shown."""
    try:
        if words and not {"-h", "--help"} & set(words):
            with _quiet_stderr():
                import tensorflow as tf
            tf.get_logger().setLevel("ERROR")  # a network that is compiled for another picture is no cause for warning
        with interrupts.remembered():
            code = app(words, standalone_mode=False)
        if code == INTERRUPTED:  # Typer catches Ctrl-C itself
            raise KeyboardInterrupt
        return code or 0
    except (KeyboardInterrupt, typer.Abort):
        fail(f"stopped{_goes_on(words)}")
        return INTERRUPTED
    except Unwritten:
        raise
    except Exception as error:
        usage = getattr(error, "format_message", None)  # what Typer raises for words that it cannot take
        if type(error).__name__ == "NoArgsIsHelpError" and usage:
            print(usage())
            return 0
        if os.environ.get("RAWCNN_DEBUG") or not (usage or isinstance(error, EXPECTED) or _is_memory(error)):
            raise
        fail(f"{usage()} (see {_verb(error)} --help)" if usage else _plainly(error))
        return getattr(error, "exit_code", 2) if isinstance(error, RuntimeError) else 2


def _goes_on(words: Sequence[str]) -> str:
    """What the same command does after Ctrl-C, where it does not begin anew."""
    command = " ".join(words)
    if command.startswith("train") or (command.startswith("attack evolve") and "encoding=gradient" not in words):
        return "; the same command goes on from its last checkpoint"
    batches = command.startswith("evaluate") and any(word.split("=")[0] == "--output" for word in words)
    if batches or (command.startswith(("attack", "data pack")) and "evolve" not in words):
        return "; the same command goes on where it stopped"
    return ""


def _verb(error: Exception) -> str:
    """The command whose words were wrong, such as `rawcnn visualize optimize`."""
    context, names = getattr(error, "ctx", None), list[str]()
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return " ".join(["rawcnn", *names])


def _is_memory(error: Exception) -> bool:
    """Did Python or TensorFlow ask for more memory than there is?"""
    tf = sys.modules.get("tensorflow")
    return isinstance(error, MemoryError) or (tf is not None and isinstance(error, tf.errors.ResourceExhaustedError))


def _plainly(error: Exception) -> object:
    """What the system says about a file, in words instead of an error number, and about too little memory."""
    if _is_memory(error):
        said = (str(getattr(error, "message", error)).splitlines() or [""])[0]
        return f"there is not enough memory{f' ({said})' if said else ''}; take a smaller network, size or batch"
    if isinstance(error, OSError) and error.filename and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and run the same command again" if full else "name another path"
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}; {remedy}"
    return error
