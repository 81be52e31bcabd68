"""docs/lecture.md: each statement has all its parts; files, functions and commands exist, and counts are the code's."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest
import typer

from rawcnn.cli import app
from tests.rawcnn.conformance import TABLE
from tests.test_reading import defined

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "lecture.md"
PARTS = ("Code", "Command", "Result", "Question", "Answer")
LINK = re.compile(r"\[([^\]]+)\]\(\.\./\1\)")


def statements() -> dict[str, dict[str, str]]:
    """Heading of a statement → its quotation and parts."""
    found = {}
    for section in re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        body = re.split(r"^## ", body, flags=re.MULTILINE)[0]
        parts = dict(re.findall(r"^- \*\*(\w+)\.\*\* (.+?)(?=\n- \*\*|\n\n|\Z)", body, re.MULTILINE | re.DOTALL))
        found[heading] = {"quotation": "\n".join(re.findall(r"^> (.+)$", body, re.MULTILINE)), **parts}
    return found


STATEMENTS = statements()
COMMAND_LINE = typer.main.get_command(app)


def commands(text: str) -> list[list[str]]:
    """The words of each command: in code spans, and in blocks of sh, where $W is a file."""
    spans = re.findall(r"`((?:rawcnn|python|pytest) [^`]+)`", text)
    blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line.replace("$W", "weights.safetensors"), comments=True) for line in (*spans, *blocks)]


def parse(words: list[str]) -> None:
    """Parse a command of the command line without running it; an unknown verb, option or value raises."""
    command, arguments, context = COMMAND_LINE, words[1:], None
    while True:
        try:
            context = command.make_context(words[0], list(arguments), parent=context)
        except typer.Exit:  # after --help
            return
        if not hasattr(command, "resolve_command"):
            return
        _, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


def test_statements_are_numbered():
    assert [int(heading.split(".")[0]) for heading in STATEMENTS] == [*range(1, len(STATEMENTS) + 1)]
    assert len(STATEMENTS) > 40


@pytest.mark.parametrize("heading", STATEMENTS)
def test_a_statement_has_all_parts(heading):
    found = STATEMENTS[heading]
    assert list(found) == ["quotation", *PARTS] and all(found.values())
    assert found["Question"].rstrip().endswith("?")
    assert commands(found["Command"]), "a command"


@pytest.mark.parametrize("heading", STATEMENTS)
def test_files_and_functions_exist(heading):
    """Code names a file and then its functions, for one file or several."""
    names, *pieces = LINK.split(STATEMENTS[heading]["Code"])
    assert not names.strip() and pieces
    for file, functions in zip(pieces[::2], pieces[1::2], strict=True):
        functions = set(re.findall(r"`([\w.]+)`", functions))
        assert functions and functions <= defined(ROOT / file).keys(), file


def test_commands_parse():
    for words in {tuple(words): words for words in commands(PAGE.read_text(encoding="utf-8"))}.values():
        if words[0] == "rawcnn":
            parse(words)
        elif words[:2] == ["python", "-c"]:
            ast.parse(words[2])
        elif words[0] in ("python", "pytest"):
            assert (ROOT / words[1].partition("::")[0]).is_file(), words
        else:
            assert re.fullmatch(r"W=\S+", words[0]), words


@pytest.mark.parametrize("words", [["profile"], ["profile", "alexnet", "--sizes", "3"], ["visualise", "filters"]])
def test_a_wrong_command_does_not_parse(words):
    with pytest.raises(Exception, match=r"Missing (argument|parameter)|No such (option|command)"):
        parse(["rawcnn", *words])


def test_counts_are_the_codes():
    """Each whole number of seven digits or more is in the conformance table, which the tests of models check."""
    counts = {count for case in TABLE for count in (case.parameters, case.macs)}
    stated = re.findall(r"\b\d{1,3}(?:,\d{3}){2,}\b", PAGE.read_text(encoding="utf-8"))
    assert len(stated) > 10 and {int(number.replace(",", "")) for number in stated} <= counts
