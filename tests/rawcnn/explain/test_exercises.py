"""The exercises: each solution passes, each typical mistake is found, and the command line goes through all steps."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

from rawcnn import cli
from rawcnn.explain.exercises import EXERCISES
from rawcnn.explain.exercises.checking import check, load_function

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        cli.main(["exercise", *words])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


def test_there_are_twelve():
    assert len(EXERCISES) == len(BY_NAME) == 12


@pytest.mark.parametrize("name", BY_NAME)
def test_solution_is_right(name):
    exercise = BY_NAME[name]
    verdicts = check(exercise, exercise.solution)
    assert [v.case for v in verdicts] == list(exercise.cases)
    assert all(v.right for v in verdicts), verdicts
    differences = exercise.differentiable or exercise.cases if exercise.differences else ()
    assert [v.case for v in verdicts if "central differences" in v.message] == list(differences)


@pytest.mark.parametrize("name", BY_NAME)
def test_every_value_is_compared(name):
    """A last value that is slightly off is found, in each case and each result."""
    exercise = BY_NAME[name]
    for case, inputs in exercise.cases.items():
        right = exercise.solution(**inputs)
        results = right if isinstance(right, tuple) else (right,)
        for n in range(len(results)):
            off = [np.array(result, np.float64) for result in results]
            off[n].flat[-1] += 1e-3 * max(np.abs(off[n]).max(), 1)
            wrong = tuple(off) if isinstance(right, tuple) else off[0]
            verdicts = check(exercise, lambda wrong=wrong, **_: wrong)
            verdict = next((v for v in verdicts if v.case == case), verdicts[-1])
            assert not verdict.right


def source_with(name: str, old: str, new: str):
    """The solution with one piece of its text replaced, as a function."""
    text = inspect.getsource(BY_NAME[name].solution)
    assert text.count(old) >= 1, text
    names = {"np": np}
    exec(text.replace(old, new), names)
    return names[name]


MISTAKES = {
    "a flipped filter": ("conv2d", "tensordot(window, filters", "tensordot(window, filters[::-1, ::-1]"),
    "no stride": ("conv2d", "p * stride : p * stride + kh", "p : p + kh"),
    "no padding": ("conv2d", "(pad, pad), (pad, pad)", "(0, 2 * pad), (0, 2 * pad)"),
    "overlaps overwritten": ("conv2d_input_gradient", "+= back", "= back"),
    "padding kept": ("conv2d_input_gradient", "pad : pad + size[0]", ": size[0]"),
    "last position only": ("conv2d_filter_gradient", "filters +=", "filters ="),
    "pool overwrites": ("max_pool_gradient", "+= gradient", "= gradient"),
    "the last of equal pixels": (
        "max_pool_gradient",
        "np.unravel_index(np.argmax(window), window.shape)",
        "np.argwhere(window == window.max())[-1]",
    ),
    "biased variance kept": ("batch_norm", "len(pixels) / (len(pixels) - 1)", "1"),
    "difference of squares": ("batch_norm", "pixels.var(0)", "(pixels.astype('f4') ** 2).mean(0) - mean**2"),
    "ε outside of the root": ("fold_batch_norm", "np.sqrt(variance + epsilon)", "(np.sqrt(variance) + epsilon)"),
    "a negative first channel": ("local_response_normalization", "max(i - radius, 0)", "i - radius"),
    "overflow": ("cross_entropy", "logits - logits.max(1, keepdims=True)", "logits"),
    "gradient of the sum": ("cross_entropy", "gradient / len(labels)", "gradient"),
    "distance first": ("receptive_field", "(taps - 1) * distance", "(taps - 1) * distance * stride"),
    "no projection": ("inception_macs", "reduce_five + projection", "reduce_five"),
    "only the ball": ("project", "np.maximum(image - epsilon, 0)", "image - epsilon"),
    "open at zero": ("relu_backward", "x > 0", "x >= 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_mistake_is_found(mistake):
    name, old, new = MISTAKES[mistake]
    assert not check(BY_NAME[name], source_with(name, old, new))[-1].right


def test_first_wrong_value_is_shown_with_its_window():
    verdict = check(BY_NAME["conv2d"], source_with("conv2d", "filters, 3)", "filters, 3) + (p == 1) * (q == 2)"))[-1]
    x, filters = (BY_NAME["conv2d"].cases[verdict.case][name] for name in ("x", "filters"))
    window, weights = verdict.shown.values()
    assert "first at [0, 1, 2, 0]" in verdict.message
    np.testing.assert_array_equal(window, x[0, 1:4, 2:5, 0])
    np.testing.assert_array_equal(weights, filters[:, :, 0, 0])
    assert f"expected {np.sum(window * weights):.6g}" in verdict.message


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda **_: None, "returned NoneType; expected an array"),
        (lambda **_: np.zeros((1, 3, 3)), "shape is (1, 3, 3); expected (1, 3, 3, 1)"),
        (lambda **_: np.full((1, 3, 3, 1), np.nan), "9 of 9 values are wrong"),
        (lambda x, **_: x.fill(9), "returned NoneType"),
        (lambda x: x, "TypeError"),
        (lambda **_: "y", "returned str; expected an array"),
    ],
)
def test_answers_that_are_no_arrays(function, message):
    assert message in check(BY_NAME["conv2d"], function)[-1].message
    assert all(np.std(inputs["x"]) > 0 for inputs in BY_NAME["conv2d"].cases.values()), "the inputs were filled"


@pytest.mark.parametrize("number", range(1, 13))
def test_printed_solution_solves_the_file(number, tmp_path):
    exercise, file = EXERCISES[number - 1], tmp_path / "answer.py"
    file.write_text(exercise.start(number))
    assert "not written yet" in check(exercise, load_function(exercise, file), file)[0].message
    file.write_text(exercise.solved(number))
    assert all(verdict.right for verdict in check(exercise, load_function(exercise, file), file))


def test_all_steps_of_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exercise = EXERCISES[10]
    assert run(capsys, "start", "11")[0] == 0
    file = tmp_path / "exercises" / exercise.file_name(11)
    code, out, _ = run(capsys, "check", "11")
    assert code == 1 and "not written yet" in out and "rawcnn exercise hint 11" in out
    code, out, _ = run(capsys, "hint", "11")
    assert code == 0 and exercise.hints[0] in out and exercise.hints[1] not in out and "--count 2" in out
    code, out, _ = run(capsys, "hint", "11", "--count", "2")
    assert exercise.hints[1] in out and "rawcnn exercise solution 11" in out
    _, out, _ = run(capsys, "solution", "11")
    file.write_text(out)
    code, out, _ = run(capsys, "check", "11", "--json")
    assert code == 0 and json.loads(out)["right"], out
    _, out, _ = run(capsys, "list", "--json")
    assert [row["number"] for row in json.loads(out) if row["started"]] == [11]


def test_started_file_is_kept(tmp_path, capsys):
    folder = ("--folder", str(tmp_path / "mine"))
    run(capsys, "start", "1", *folder)
    (tmp_path / "mine" / "01_conv2d.py").write_text("my work")
    code, _, err = run(capsys, "start", "1", *folder)
    assert code == 2 and "--fresh" in err and (tmp_path / "mine" / "01_conv2d.py").read_text() == "my work"
    assert run(capsys, "start", "1", "--fresh", *folder)[0] == 0
    assert "NotImplementedError" in (tmp_path / "mine" / "01_conv2d.py").read_text()


@pytest.mark.parametrize(
    "text, code, message",
    [
        (None, 2, "does not exist"),
        ("x = 1", 2, "has no function conv2d"),
        ("def conv2d(", 2, "line 1: SyntaxError"),
        ("import numpy as np\n1 / 0", 2, "line 2: ZeroDivisionError"),
        ("def conv2d(x, filters, stride, pad):\n    return x[9]", 1, "IndexError, line 2"),
    ],
)
def test_files_that_cannot_be_checked(tmp_path, capsys, text, code, message):
    if text is not None:
        (tmp_path / "01_conv2d.py").write_text(text)
    found, out, err = run(capsys, "check", "1", "--folder", str(tmp_path))
    assert found == code and message in (out if code == 1 else err) and "Traceback" not in out + err


@pytest.mark.parametrize("verb", ["start", "check", "hint", "solution"])
@pytest.mark.parametrize("number", ["0", "13", "-1", "one"])
def test_numbers_that_do_not_exist(verb, number, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, verb, number)
    assert code == 2 and err.startswith("rawcnn: ") and err.count("\n") == 1


@pytest.mark.parametrize("name", BY_NAME)
def test_source_exists(name):
    from tests.test_selection import ROOT

    assert (ROOT.parent / BY_NAME[name].source).is_file()
