"""The race of attacks: its results, and that contestants with wrong results are not timed."""

from __future__ import annotations

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from benchmarks import run
from benchmarks.harness import results
from benchmarks.harness.agreement import Disagreement
from benchmarks.harness.timing import Timing
from benchmarks.races import attacks as attack_race
from benchmarks.races.attack_agreement import FEWER, NO_EFFECT, OURS, Judge
from benchmarks.races.attack_peers import OPPONENTS, AttackTask, library_of
from benchmarks.races.attacks import ATTACKS, AttackRaceResult, growth, names_of, race_attack, right_images
from benchmarks.races.visualize_peers import installed
from rawcnn.cli import main
from tests.benchmarks.toys import batch, small, toy

QUICK = {  # by kind
    "pgd": {"steps": 3},
    "deepfool": {"steps": 5, "candidates": 3},
    "grid": {"angles": 3, "shifts": 3},
}


@pytest.fixture(autouse=True)
def fresh_keras():
    yield
    keras.backend.clear_session()


@pytest.mark.sample("^pgd$")
@pytest.mark.parametrize("attack", ATTACKS)
def test_without_libraries(attack):
    reported, kind = [], ATTACKS[attack].kind
    names = [name for name in names_of(attack) if library_of(name) is None]
    found = race_attack(
        attack,
        toy(),
        batch=4,
        rounds=2,
        contestants=names,
        progress=lambda *words: reported.append(words),
        **QUICK[kind],
    )
    assert [t.name for t in found.timings] == names
    assert (found.network, found.size, found.batch, found.complete) == ("small", 12, 4, False)
    assert all(len(t.seconds) == 2 and min(t.seconds) > 0 for t in found.timings)
    assert [done for _, done, _ in reported] == sorted(done for _, done, _ in reported) and reported[-1][1] == reported[
        -1
    ][2]
    settings, figures = (json.loads(json.dumps(found.to_json(), allow_nan=False))[k] for k in ("settings", "figures"))
    assert settings["attack"] == attack and settings["rounds"] == 2 and settings.items() >= QUICK[kind].items()
    assert figures["libraries"] == {} and (figures["growth"] is not None) == ATTACKS[attack].grows
    if kind == "pgd":
        assert figures["fastest_peer"] == "keras function" and set(figures["ratios"]) == set(OURS)
    differences = {t.name: t.difference for t in found.timings}
    assert (differences.get("keras function") is not None) == (attack == "pgd")


@pytest.mark.sample("^pgd foolbox$")
@pytest.mark.parametrize(
    "name", [f"{kind} {name}" for kind in OPPONENTS for name in OPPONENTS[kind] if library_of(name)]
)
def test_a_library(name, monkeypatch):
    kind, name = name.split(" ", 1)
    attack = next(attack for attack in ATTACKS if ATTACKS[attack].kind == kind)
    if not installed(library_of(name)):
        with pytest.raises(ValueError, match=f"{library_of(name)} must be installed"):
            race_attack(attack, toy(), contestants=["rawcnn", name])
        pytest.skip(f"{library_of(name)} is not installed")
    monkeypatch.setitem(FEWER, "grid", 1.0)  # one of few images is more than the difference of the grids
    found = race_attack(attack, toy(), batch=4, rounds=1, contestants=["rawcnn", name], **QUICK[kind])
    assert found.fastest_peer.name == name and found.ratio() > 0
    assert found.to_json()["figures"]["libraries"] == {library_of(name): installed(library_of(name))}
    if kind == "pgd":
        assert found.by_name[name].difference < 0.005


def test_images_are_those_that_the_network_gets_right():
    network = toy()
    images, labels = (np.asarray(tensor) for tensor in batch(network, 40))
    predictions = np.argmax(network(images), axis=1)
    count = int(np.sum(predictions == labels))
    assert 0 < count < 40
    chosen, right = right_images(network, count, images, labels)
    np.testing.assert_array_equal(np.argmax(network(chosen), axis=1), right)
    assert (chosen.shape, right.dtype) == ((count, 12, 12, 3), np.int32)
    with pytest.raises(ValueError, match=f"right on {count} of 40 images; expected {count + 1}"):
        right_images(network, count + 1, images, labels)
    noise, labels = right_images(network, 3)
    np.testing.assert_array_equal(np.argmax(network(noise), axis=1), labels)
    np.testing.assert_array_equal(noise, right_images(network, 3)[0])
    assert np.any(noise != right_images(network, 3, seed=1)[0])


def test_an_opponent_that_steps_otherwise_is_not_timed(monkeypatch):
    keras_function = OPPONENTS["pgd"]["keras function"]

    def wrong(task, name):
        return keras_function(task.with_settings(step=2 * task.settings["step"]), name)

    monkeypatch.setitem(OPPONENTS, "pgd", {"wrong": wrong})
    with pytest.raises(Disagreement, match="one step of wrong differs from that of rawcnn"):
        race_attack("pgd", toy(), batch=2, rounds=1, contestants=["rawcnn", "wrong"], steps=2)


def judge(kind, **settings) -> Judge:
    network = toy()
    return Judge(AttackTask(network, *right_images(network, 4), {"epsilon": 0.1, **settings}), kind)


def test_images_beyond_the_bounds_are_seen():
    judged = judge("pgd")
    for wrong, match in (
        (judged.task.images[:3], "made no images"),
        (judged.task.images + 1, "made no images"),
        (np.full_like(judged.task.images, np.nan), "made no images"),
        (np.clip(judged.task.images + 0.2, 0, 1), "changed a pixel by 0.2"),
    ):
        with pytest.raises(Disagreement, match=match):
            judged.measure("wrong", wrong)
    judged.measure("none", judged.task.images)
    assert (judged.success, judged.l2) == ({"none": 0.0}, {"none": (0.0, 0.0)})


def test_who_fools_less_is_not_timed():
    judged = judge("pgd")
    judged.success = {"rawcnn": 0.9, "rawcnn bfloat16": 1.0, "foolbox": 0.95}
    with pytest.raises(Disagreement, match=r"rawcnn fools 90\.00% of the images, foolbox 95\.00%"):
        judged.decide()
    judged.success["rawcnn"] = 0.95
    judged.decide()
    nothing = judge("pgd", epsilon=NO_EFFECT)
    nothing.success = {"rawcnn": 0.0, "foolbox": 0.25}
    with pytest.raises(Disagreement, match="fools the network; take other images"):
        nothing.decide()


def test_deepfool_must_not_go_farther():
    judged = judge("deepfool")
    judged.success = {"rawcnn": 1.0, "art": 1.0}
    for mine, good in (((1.04, 1.04), True), ((1.06, 1.0), False), ((1.0, 1.06), False), ((0.1, 0.1), True)):
        judged.l2 = {"rawcnn": mine, "art": (1.0, 1.0)}
        if good:
            judged.decide()
        else:
            with pytest.raises(Disagreement, match="mean and median L2 of rawcnn"):
                judged.decide()


def test_growth_has_what_fits_it(monkeypatch):
    task = AttackTask(toy(), *right_images(toy(), 8), {"epsilon": 1e-6, "step": 1e-6, "steps": 1})
    monkeypatch.setattr(
        attack_race,
        "interleaved",
        lambda runs, rounds: {n: (0.1 * int(n.split()[0]) ** (1 if n.endswith("steps") else 2),) for n in runs},
    )
    found = growth(task, 1, steps=(1, 2, 4), batches=(2, 4, 8, 16))
    assert found["steps"] == {
        "counts": [1, 2, 4],
        "seconds": pytest.approx([0.1, 0.2, 0.4]),
        "exponent": pytest.approx(1),
        "batch": 4,
    }
    assert found["images"]["counts"] == [2, 4, 8] and found["images"]["exponent"] == pytest.approx(2)


def test_a_slow_opponent_is_called_once(monkeypatch):
    calls = []

    def counted(task, name):
        attack = attack_race.ours(task, "deepfool", "rawcnn")
        return lambda: (calls.append(name), attack())[1]

    seconds = iter((1.0, 1.0, 2.0, 2.1 * attack_race.SLOW))
    monkeypatch.setitem(OPPONENTS, "deepfool", {"quick": counted, "slow": counted})
    monkeypatch.setattr(attack_race, "timed", lambda call: (next(seconds), call()))
    found = race_attack("deepfool", toy(), batch=2, rounds=2, steps=2, candidates=2)
    assert (calls.count("quick"), calls.count("slow")) == (
        6,
        1,
    )  # first call, warm-up round, twice in each of two rounds
    assert found.by_name["slow"].seconds == (2.1 * attack_race.SLOW,) and found.fastest_peer.name == "quick"


def test_refusals():
    for wrong, match in (
        ({"batch": -1}, "batch is -1"),
        ({"rounds": 0}, "rounds 0"),
        ({"contestants": ["keras"]}, "contestants are keras"),
        ({"contestants": []}, "contestants are none"),
        ({"contestants": ["keras function"]}, "rawcnn is not among the contestants"),
        ({"candidates": 3}, "pgd has no setting candidates; expected some of epsilon, step, steps"),
    ):
        with pytest.raises(ValueError, match=match):
            race_attack("pgd", toy(), **wrong)
    with pytest.raises(ValueError, match="no race of 'fgsm'; expected one of pgd"):
        race_attack("fgsm")


def test_figures_follow_from_the_seconds():
    seconds = {"rawcnn": (1.0, 2.0), "rawcnn bfloat16": (0.5, 0.5), "keras function": (3.0, 4.0), "art": (2.5,)}
    timings = tuple(Timing(name, 1.0, taken, None, None) for name, taken in seconds.items())
    equal = dict.fromkeys(seconds, 1.0), dict.fromkeys(seconds, (0.5, 0.5))
    found = AttackRaceResult("pgd", "toy", 12, 4, {"steps": 2}, timings, *equal)
    assert found.fastest_peer.name == "keras function"  # art did not run in all rounds
    assert (found.ratios(), found.ratio(), found.ratio(OURS[1])) == ((3.0, 2.0), 2.5, 7.0)
    assert not found.complete
    alone = replace(found, timings=timings[:1])
    assert alone.ratio() is None and alone.to_json()["figures"]["fastest_peer"] is None


def test_a_list_of_races_and_its_file(tmp_path, monkeypatch):
    def quick(attack, network, images, labels, *, rounds, named, progress, **settings):
        progress("raced", 1, 1)
        timings = (Timing("rawcnn", 1.0, (0.5,) * rounds, None, None),)
        return AttackRaceResult(attack, "small", 12, 4, {}, timings, {"rawcnn": 1.0}, {"rawcnn": (0.1, 0.1)}, named)

    monkeypatch.setattr(run, "race_attack", quick)
    reported: list[str] = []
    file = tmp_path / "new" / "attacks.jsonl"
    raced = run.run_attacks(
        ("pgd", "deepfool"), toy(small), rounds=2, named={"weights": "w", "data": "d"}, file=file, command="a test",
        progress=lambda what, *_: reported.append(what),
    )  # fmt: skip
    assert reported == ["pgd: raced", "deepfool: raced"]
    records = results.read(file.parent)
    assert [r["settings"] for r in records] == [r.to_json()["settings"] for r in raced]
    assert records[0]["settings"]["weights"] == "w" and records[0]["command"] == "a test"


def test_the_command(tmp_path, monkeypatch, capsys):
    asked = []

    def quick(attacks, network, images, labels, *, batch, contestants, rounds, named, file, **settings):
        asked.append((list(attacks), network.name, batch, contestants))
        assert (images, labels, rounds) == (None, None, 2)
        timings = (Timing("rawcnn", 1.0, (0.5, 0.5), None, None), Timing("keras function", 1.0, (1.5, 1.5), None, None))
        equal = dict.fromkeys(("rawcnn", "keras function"), 1.0)
        return [
            AttackRaceResult("pgd", network.name, 32, 4, {}, timings, equal, dict.fromkeys(equal, (0.5, 0.5)), named)
        ]

    monkeypatch.setattr(run, "run_attacks", quick)
    where = ["--rounds", "2", "--output", str(tmp_path / "a.jsonl")]
    calls = (
        (["attacks"], 0),
        (["attacks", "deepfool"], 0),
        (["attacks", "resnet18", "cifar_resnet20", "--batch", "2", "--size", "32"], 0),
        (["attacks", "x"], 2),
        (["vgg16", "--data", "digits"], 2),
    )
    for words, code in calls:
        with pytest.raises(SystemExit) as stop:
            main(["benchmark", *words, *where])
        assert (stop.value.code or 0) == code
    out, err = capsys.readouterr()
    assert "keras function, the fastest other contestant, takes 3.0 times as long as rawcnn" in out
    assert asked == [
        (list(attack_race.ATTACKS), "cifar_resnet20", None, None),
        (["deepfool"], "cifar_resnet20", None, None),
        (list(attack_race.PGDS), "resnet18", 2, attack_race.AGAINST_KERAS),
        (list(attack_race.PGDS), "cifar_resnet20", 2, attack_race.AGAINST_KERAS),
    ]
    assert "there is no race of 'x'; expected 'pgd', " in err and "No such option: --data" in err
