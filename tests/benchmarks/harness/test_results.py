"""Result files, and the tables that are generated from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import rawcnn
from benchmarks.harness import results
from benchmarks.harness.timing import Timing
from benchmarks.measurements.build import BuildResult, run_builds
from benchmarks.measurements.growth import Series
from benchmarks.measurements.memory import MemoryResult
from benchmarks.races.attack_agreement import OURS
from benchmarks.races.attacks import AGAINST_KERAS, AttackRaceResult, names_of
from benchmarks.races.contestants import NAMES
from benchmarks.races.kernels import KernelCase, KernelResult
from benchmarks.races.networks import RaceResult
from benchmarks.races.visualize import VisualizeResult
from benchmarks.tables import documents as tables
from benchmarks.tables import markdown
from rawcnn.cli.parsing import without_folders

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = (
    "README.md",
    "docs/attacks.md",
    "docs/kernels.md",
    "docs/networks.md",
    "docs/performance.md",
    "docs/scale.md",
    "docs/visualization.md",
)
START, END = tables.marks("race table")


def race_result(model="resnet50", job="training", seconds=0.5, batch=8, precision="float32", rounds=3) -> RaceResult:
    others = [name for name in NAMES if name not in ("rawcnn graph", "keras jit")]
    timings = (
        Timing("rawcnn graph", 3.0, (seconds,) * rounds, 2**20, 0.0),
        Timing("keras jit", 9.0, (1.0,) * rounds, None, None),
        *(Timing(name, 9.0, (3.0,) * rounds, None, None) for name in others),
    )
    return RaceResult(model, job, batch, 224, 1000, precision, 25, timings, "rawcnn graph", "a reason", None)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "results" / "here.jsonl"


def test_records_come_back(file):
    written = results.append([race_result(), race_result(job="inference")], "rawcnn benchmark resnet50", file)
    written += results.append([race_result("vgg16")], "rawcnn benchmark vgg16", file)
    assert results.read(file.parent) == written
    first = written[0]
    assert set(first) == {"date", "device", "versions", "commit", "command", "settings", "figures"}
    assert first["device"]["cpu"] and first["device"]["cores"] >= 1
    assert {"python", "tensorflow", "keras", "numpy"} <= set(first["versions"])
    assert first["settings"]["rounds"] == 3 and first["figures"]["ratio"] == 2.0


def test_a_broken_line_is_named(file):
    results.append([race_result()], "c", file)
    with file.open("a") as stream:
        stream.write("{\n")
    with pytest.raises(ValueError, match=r"here\.jsonl, line 2, is not JSON"):
        results.read(file.parent)


def test_summary_table_has_the_chosen_races(file):
    raced = [race_result("vgg16"), race_result("vgg16", "inference"), race_result(), race_result("resnet18")]
    text = tables.summary_table(results.append(raced, "c", file))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0] for row in rows] == ["| resnet50", "| vgg16"]
    assert rows[1] == ("| vgg16 | training step, 224 px | float32 | 500 ms | 1,000 ms | – | **2.00** (2.00–2.00) | – |")


def test_table_has_the_newest_of_each_race(file):
    races = [race_result(seconds=0.25), race_result(seconds=0.5), race_result("alexnet", "inference", 2.0, 32)]
    about = "alexnet", "inference", 32, 224, 1000, "float32"
    peaks = [MemoryResult(*about, {"rawcnn graph": taken, "keras jit": None}) for taken in (2**30, 2**20)]
    grown = Series("batch", "training", "resnet18", "float32", 3, (1, 2), ("1", "2"), (1, 2), (1.0, 2.0))  # not a race
    records = results.append([*races, *peaks, grown], "c", file)
    text = tables.race_table(records)
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    half, twice = "**0.50** (0.50–0.50)", "**2.00** (2.00–2.00)"
    third = "**0.33** (0.33–0.33)"
    assert rows == [
        f"| alexnet | inference, 224 px | float32 | 32 | 2,000 ms (graph) | 1,000 ms (jit) | {half} | {third} |  "
        "| 1 MiB, – |",
        f"| resnet50 | training step, 224 px | float32 | 8 | 500 ms (graph) | 1,000 ms (jit) | {twice} | {third} |  "
        "| –, – |",
    ]
    assert f"cores of {records[0]['device']['cpu']}" in text
    assert f"Keras {records[0]['versions']['keras']}" in text and "3 interleaved rounds" in text


def test_devices_have_tables_of_their_own(file):
    records = results.append([race_result(), race_result("vgg16")], "c", file)
    other = json.loads(json.dumps(records[1]))
    other["device"] |= {"cpu": "Another", "gpus": ["A GPU"]}
    most, others = tables.race_table([*records, other]), tables.other_race_table([*records, other])
    assert most == tables.race_table(records) and tables.other_race_table(records) == ""
    assert most.count("| network |") == others.count("| network |") == 1
    assert "A GPU" not in most and most.count("resnet50") == 1 and most.count("vgg16") == 1
    assert "Measured on A GPU, " in others and others.count("resnet50") == 0 and others.count("vgg16") == 1


def test_versions_of_raced_packages_are_listed(file):
    (alone,) = results.append([race_result()], "c", file)
    beside = json.loads(json.dumps(alone))
    beside["versions"]["torch"] = alone["versions"]["torch"] = "2.13.0"
    beside["figures"]["contestants"].append({**beside["figures"]["contestants"][0], "name": "torch eager"})
    assert "PyTorch 2.13.0." in tables.race_table([beside]) and "PyTorch 2" not in tables.race_table([alone])


def test_races_that_not_all_ran_are_left_out(file):
    whole = race_result()
    some = [replace(whole, timings=whole.timings[:count]) for count in (1, 2, len(NAMES) - 1)]
    some.append(race_result(rounds=2))  # too few rounds for quartiles
    records = results.append(some, "c", file)
    assert tables.races(records) == []
    assert tables.race_table(records) == ""
    assert tables.rewrite(f"{START}\n{END}\n", records) == f"{START}\n{END}\n"


def test_kernel_table(file):
    def raced(graph_seconds):
        timings = (
            Timing("nn graph", 3.0, (graph_seconds,), None, 0.0),
            Timing("winograd xla", 9.0, (0.125,), None, 0.0),
        )
        return KernelResult(KernelCase("conv2d", 8, 14, 256, 256, 3), "forward", "float32", 2_000_000_000, timings)

    records = results.append([raced(1.0), race_result(), raced(0.1)], "c", file)
    rows = [line for line in tables.kernel_table(records).splitlines() if line.startswith("| ")][1:]
    assert rows == ["| conv2d 8×14×14×256 → 256 3×3/1 | forward | float32 | **nn graph 20.0**, winograd xla 16.0 |"]


def test_visualize_table(file):
    def raced(batch, **seconds):
        names = {"graph": "rawcnn graph", "xla": "rawcnn xla", "loop": "keras loop", "function": "keras function"}
        names |= {"jit": "keras function xla", "vis": "tf-keras-vis", "xplique": "xplique"}
        timings = tuple(Timing(names[key], 3.0, (s, s, 2 * s), None, None) for key, s in seconds.items())
        return VisualizeResult(
            "googlenet", "inception_4a", 5, batch, 128, 1, "Keras", timings, "rawcnn graph", "reported"
        )

    ways = {"graph": 0.1, "xla": 0.2, "loop": 0.4, "function": 0.16, "jit": 0.12}
    written = [raced(8, **ways | {"graph": 9.0}), raced(8, **ways), raced(1, **ways, vis=1.0, xplique=0.5)]
    text = tables.visualize_table(results.append([*written, raced(32, graph=0.1, loop=0.2)], "c", file))
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| googlenet inception_4a, 128 px | 1 | 100 ms (graph) | 200 ms | 400 ms | 120 ms (xla) | 1,000 ms | 500 ms "
        "| **1.20** (1.20–1.20) |",
        "| googlenet inception_4a, 128 px | 8 | 12.5 ms (graph) | 25.0 ms | 50.0 ms | 15.0 ms (xla) |  |  "
        "| **1.20** (1.20–1.20) |",
    ]
    assert "3 interleaved rounds" in text


def test_attack_table(file):
    def raced(**seconds):
        names = {"f32": "rawcnn", "bf16": "rawcnn bfloat16", "function": "cleverhans function"}
        taken = {names.get(key, key): (s,) if key == "art" else (s, s) for key, s in seconds.items()}
        taken |= {name: (9.0, 9.0) for name in names_of("pgd") if name not in taken}
        timings = tuple(Timing(name, 3.0, s, None, None) for name, s in taken.items())
        success = {name: 1.0 if name in OURS else 0.5 for name in taken}
        return AttackRaceResult("pgd", "n", 32, 128, {}, timings, success, dict.fromkeys(taken, (0.5, 0.5)))

    some = raced(f32=1.0)
    some = replace(some, timings=some.timings[:3])
    text = tables.attack_table(
        results.append([raced(f32=2.0), raced(f32=1, bf16=0.5, function=3, art=8), some], "c", file)
    )
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| pgd | 128 | 1,000 ms | 500 ms | 9,000 ms | 9,000 ms | 8,000 ms¹ | 3,000 ms | 100.0% (50.0%) "
        "| **3.0** (3.0–3.0) | **6.0** (6.0–6.0) |"
    ]


def test_attack_networks_table(file):
    timings = [Timing(n, 3.0, (t, t), None, None) for n, t in zip(AGAINST_KERAS, (2, 3), strict=True)]
    fooled = dict.fromkeys(AGAINST_KERAS, 1.0)
    race = AttackRaceResult("pgd", "vgg16", 224, 8, {}, tuple(timings), fooled, dict.fromkeys(fooled, (0.5, 0.5)))
    text = tables.attack_networks_table(results.append([race], "c", file))
    assert [line for line in text.splitlines() if line.startswith("| ")][1:] == [
        "| vgg16, 224 px | pgd | 8 | 2,000 ms | 3,000 ms | **1.50** (1.50–1.50) |"
    ]


@pytest.mark.parametrize(
    "seconds, words",
    [(0.0012345, "1.23 ms"), (0.012345, "12.3 ms"), (0.099949, "99.9 ms"), (0.12345, "123 ms"), (1.2345, "1,234 ms")],
)
def test_three_digits(seconds, words):
    assert markdown.milliseconds(seconds) == words


def test_a_file_is_rewritten_between_its_marks(file, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{START}\nold\n{END}\n\nafter\n")
    records = results.append([race_result()], "c", file)
    arguments = [str(readme), "--folder", str(file.parent)]
    assert tables.main([*arguments, "--check"]) == 1
    assert tables.main(arguments) == 0
    assert tables.main([*arguments, "--check"]) == 0
    assert readme.read_text() == f"# Title\n\n{START}\n\n{tables.race_table(records)}\n{END}\n\nafter\n"
    readme.write_text("no marks")
    assert tables.main(arguments) == 2
    assert "there is no table to write" in capsys.readouterr().err
    assert readme.read_text() == "no marks"
    readme.write_text(f"{END} {START}")
    assert tables.main(arguments) == 2
    assert "each once and in this order" in capsys.readouterr().err


def test_a_file_may_have_both_tables(file):
    records = results.append([race_result()], "c", file)
    kernels = "\n".join(tables.marks("kernel table"))
    text = tables.rewrite(f"{START}\n{END}\n{kernels}\n", records)
    assert text == f"{START}\n\n{tables.race_table(records)}\n{END}\n{kernels}\n"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_have_the_tables_that_the_result_files_give(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert tables.rewrite(text, results.read()) == text, (
        f"run: python -m benchmarks.tables.documents {' '.join(DOCUMENTS)}"
    )


def test_commit_is_that_of_a_checkout(tmp_path):
    assert results.commit(tmp_path) is None


def test_build_table(file):
    network = BuildResult("cifar_resnet20", 32, 70, 0.1, 0.3, 0.31, 0.84, 0.0042, 1.5)
    records = results.append([replace(network, xla=2.0), network, replace(network, model="vgg16")], "c", file)
    rows = [line for line in tables.build_table(records).splitlines() if line.startswith("| ")][1:]
    assert rows[0] == "| cifar_resnet20 | 32 | 70 | 0.10 s | 0.30 s | 0.31 s | 0.84 s | 1.50 s | 4.20 ms |"
    assert len(rows) == 2
    assert "Keras's first answer takes 1.79 to 1.79 times as long (median 1.79)." in tables.build_table(records)


@pytest.mark.slow
def test_a_network_is_built_in_a_process_of_its_own(file):
    reported = []
    (result,) = run_builds(["cifar_resnet20"], file=file, progress=lambda *words: reported.append(words))
    assert result.operations == len(rawcnn.create("cifar_resnet20").operations)
    assert 0 < result.profile < result.create and 0 < result.answer < result.graph
    assert results.read(file.parent)[0]["figures"]["xla"] == result.xla > 0
    assert [words[1:] for words in reported] == [(0, 1), (1, 1)]
    with pytest.raises(RuntimeError, match=r"lenet could not be built: ValueError: there is no model 'lenet'"):
        run_builds(["lenet"])


def test_every_network_was_built():
    assert {r["settings"]["build"] for r in results.read() if "build" in r["settings"]} == set(rawcnn.MODELS)


def test_no_record_names_a_folder_of_a_machine():
    for record in results.read(ROOT / "benchmarks" / "results"):
        words = [*record["command"].split(), *(v for v in record["settings"].values() if isinstance(v, str))]
        assert [word for word in words if without_folders(word) != word] == []
