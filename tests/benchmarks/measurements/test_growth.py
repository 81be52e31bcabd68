"""Growth of the time: the fit, the points, the plot."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from benchmarks.measurements import growth
from rawcnn.plots import figures as plots


def series(along: str, points, seconds, job="inference") -> growth.Series:
    names = tuple(map(str, points))
    return growth.Series(along, job, "a network", "float32", 3, points, names, (4,) * len(points), seconds)


def test_the_exponent_is_that_of_a_power():
    assert series("batch", (1, 2, 8), (3.0, 12.0, 192.0)).exponent == pytest.approx(2)
    assert series("batch", (1, 2, 8), (3.0, 12.0, 192.0)).seconds_per_image == (0.75, 3.0, 48.0)


@pytest.mark.sample("inference")
@pytest.mark.parametrize("job, size", zip(growth.JOBS, (8, (12, 8)), strict=True))
def test_a_call_of_each_job(job, size):
    assert growth.JOBS[job]("cifar_resnet20", 2, size, "bfloat16")().size


@pytest.mark.slow
def test_everything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "JOBS", {job: lambda *_: lambda: sum(range(10_000)) for job in growth.JOBS})
    file = tmp_path / "growth.jsonl"
    found = growth.grow(
        rounds=1, batches=(1, 2), sizes=(8, 16), models=("cifar_resnet20", "cifar_resnet32"), steps=(1, 3), batch=1,
        size=8, file=file,
    )  # fmt: skip
    assert [(s.along, s.job) for s in found] == [
        *((along, job) for job in ("inference", "training") for along in ("batch", "size", "depth")),
        ("steps", "PGD"),
    ]
    assert all(t > 0 for s in found for t in s.seconds)
    assert found[2].points[1] > found[2].points[0] > 1e5  # MACs
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [record["figures"]["exponent"] for record in records] == [s.exponent for s in found]
    plots.save(plots.growth(found), tmp_path / "growth.png")
    with Image.open(tmp_path / "growth.png") as picture:
        assert min(picture.size) > 500


@pytest.mark.slow
def test_an_attack_is_measured_once(monkeypatch):
    """The attack computes in float32 for both precisions, so it is measured only for float32."""
    monkeypatch.setattr(growth, "JOBS", {"inference": lambda *_: lambda: sum(range(10_000))})
    monkeypatch.setattr(growth, "attack", lambda *_: lambda: sum(range(10_000)))
    some = {"rounds": 1, "batches": (1, 2), "sizes": (8, 16), "models": ("cifar_resnet20",), "steps": (1, 3), "size": 8}
    for precision, times in (("float32", 1), ("bfloat16", 0)):
        assert [s.along for s in growth.grow(precision, **some)].count("steps") == times


def test_on_the_command_line(rawcnn_command, tmp_path, monkeypatch):
    made = [series(along, (1, 2), (1.0, 2.0)) for along in ("batch", "size", "depth", "steps")]
    sizes = []
    monkeypatch.setattr(growth, "grow", lambda *_, size, **settings: sizes.append(size) or made)
    words = "benchmark", "growth", "--output", tmp_path / "growth.jsonl", "--json"
    code, out, err = rawcnn_command(*words, "--size", "224x160")
    assert code == 0 and "size=224x160" in err and sizes == [(224, 160)], err
    assert [s["figures"]["exponent"] for s in json.loads(out)] == pytest.approx([1.0] * 4)
    assert (tmp_path / "growth-float32.png").stat().st_size > 10_000
    code, _, err = rawcnn_command("benchmark", "growth", "resnet50")
    assert code == 2 and "(resnet50) (see rawcnn benchmark growth --help)" in err
