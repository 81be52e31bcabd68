"""The papers' tables: how each printed number compares with the count, and why it differs."""

from __future__ import annotations

import pytest

from rawcnn.models import MODELS
from rawcnn.papers import PAPERS, Comparison, Line, compare
from rawcnn.papers.comparison import CUT_OFF, DIFFERS, EXACT, ROUNDED, explained, profiled
from rawcnn.papers.googlenet import separable_stem
from rawcnn.papers.imagenet_errors import ERRORS
from rawcnn.papers.resnext import TEMPLATES, template
from rawcnn.papers.senet import added_weights


@pytest.mark.sample("alexnet", "vgg", "googlenet")
@pytest.mark.parametrize("name", PAPERS)
def test_every_difference_is_explained(name):
    for line in compare(name).lines:
        assert line.explanation or line.agrees, line
        assert not line.explanation or line.verdict not in (EXACT, ROUNDED), line


@pytest.mark.sample("alexnet", "vgg", "googlenet")
@pytest.mark.parametrize("name", PAPERS)
def test_comparison_as_cells_and_as_json(name):
    comparison = compare(name)
    assert all(len(row) == len(comparison.columns) for row in comparison.rows)
    assert len(comparison.to_dict()["lines"]) == len(comparison.lines)
    assert comparison.notes


@pytest.mark.parametrize(
    "row, words",
    [
        ("inception_4a", "0.7% lower"),
        ("inception_4c", "6.9% lower, which nothing in the table explains"),
        ("inception_5a", "5.3% higher, which nothing in the table explains"),
        ("conv1", "separable stem"),
    ],
)
def test_a_difference_is_named_for_what_it_is(row, words):
    (line,) = [x for x in compare("googlenet").lines if x.row == row and x.quantity == "weights"]
    assert words in line.explanation


def test_the_guess_at_row_5a():
    """GoogLeNet's 5a with a 5×5 reduce of 48 instead of 32."""
    weights = 1_042_432 + 16 * 832 + 25 * 16 * 128
    (line,) = [x for x in compare("googlenet").lines if x.row == "inception_5a" and x.quantity == "MACs"]
    assert f"{weights / 1024:,.0f}K and {49 * weights / 1e6:.1f}M" in line.explanation


@pytest.mark.parametrize(
    "printed, counted, verdict",
    [
        ("253,440", 253_440, EXACT),
        ("1.8G", 1_800_000_000, EXACT),
        ("138M", 138_357_544, ROUNDED),
        ("1.8G", 1_814_073_344, ROUNDED),
        ("25.6M", 25_557_032, ROUNDED),
        ("25.5M", 25_557_032, CUT_OFF),
        ("44M", 44_549_160, CUT_OFF),
        ("60M", 60_965_224, CUT_OFF),
        ("139M", 138_357_544, DIFFERS),
        ("253,440", 253_441, DIFFERS),
        ("112K", 114_688, DIFFERS),
    ],
)
def test_a_printed_number_against_a_count(printed, counted, verdict):
    line = Line("a", "parameters", printed, counted)
    assert line.verdict == verdict and line.agrees == (verdict != DIFFERS)


def test_a_unit_is_that_of_the_paper():
    assert Line("a", "weights", "112K", 114_688, units={"K": 1024}).verdict == EXACT


def test_a_summary_counts_the_verdicts():
    lines = [Line("a", "n", printed, 25_557_032) for printed in ("25.5M", "25.6M", "30M", "31M", "25,557,032")]
    comparison = Comparison("a", "", "", lines, [])
    assert comparison.summary == "1 exact, 1 equal when rounded, 1 equal when cut off, 2 differ"
    assert Comparison("a", "", "", lines[2:3], []).summary == "1 differs"


def test_a_line_that_agrees_needs_no_explanation():
    assert explained(Line("a", "parameters", "25.6M", 25_557_032), "why").explanation == ""
    assert explained(Line("a", "parameters", "25.5M", 25_557_032), "why").explanation == ""
    assert explained(Line("a", "parameters", "30M", 25_557_032), "why").explanation == "why"
    assert "17.4% higher" in explained(Line("a", "parameters", "30M", 25_557_032)).explanation


def counts(paper: str) -> dict[tuple[str, str], float]:
    return {(line.row, line.quantity): line.counted for line in compare(paper).lines}


def test_inception_costs_and_maps():
    counted = counts("inception")
    assert counted["Inception V2", "parameters"] == 11_194_984
    assert counted["Inception V2", "MACs"] == 2_018_851_840
    assert counted["Inception V3", "parameters"] == 23_834_568
    assert counted["Inception V3", "MACs"] == 5_713_216_096
    assert counted["V4, reduction_b", "channels"] == 1536 and counted["V3, mixed_6e", "side of the map"] == 17
    assert counted["Inception-ResNet V2, block17", "blocks"] == 20
    (line,) = [x for x in compare("inception").lines if x.printed == "13.6M"]
    assert "nothing in the paper explains" in line.explanation


def test_rows_of_inception_v3_that_the_published_code_does_not_follow():
    """Table 1's stem and number of modules differ from the published code's."""
    differing = {(x.row, x.quantity): (x.printed, x.counted) for x in compare("inception").lines if not x.agrees}
    table = {key: value for key, value in differing.items() if key[0].startswith("V3, ")}
    assert table == {
        ("V3, conv5", "channels"): ("80", 192),
        ("V3, mixed_5b", "channels that it reads"): ("288", 192),
        ("V3, 17×17", "modules"): ("5", 4),
    }
    counted = counts("inception")
    assert (counted["V3, 35×35", "modules"], counted["V3, 8×8", "modules"]) == (3, 2)
    assert counted["V3, pool2", "channels"] == 192 and counted["V3, pool2", "side of the map"] == 35
    (line,) = [x for x in compare("inception").lines if x.row == "V3, 17×17"]
    assert line.explanation.endswith("unexplained")


def test_resnext_and_its_templates():
    counted = counts("resnext")
    assert counted["ResNet-50", "MACs"] == 4_089_184_256
    assert counted["ResNeXt-50 (32×4d)", "parameters"] == 25_028_904
    assert counted["ResNeXt-101 (32×4d)", "parameters"] == 44_177_704
    assert counted["ResNeXt-101 (64×4d)", "MACs"] == 15_460_270_080
    for cardinality, width in TEMPLATES.items():  # equation 4 of the paper, with 3·3·d² and 2·256·d
        weights = cardinality * (256 * width + 9 * width**2 + width * 256)
        assert template(cardinality, width) == (weights, weights * 56 * 56)


def test_senet_adds_what_equation_5_says():
    lines = {(line.row, line.quantity): line for line in compare("senet").lines}
    assert lines["SE-ResNet-50", "parameters more than ResNet-50"].counted == 2_530_992
    assert added_weights() == 2_514_944 == 2_530_992 - sum(n * (c + c // 16) for n, c in _SE_STAGES)
    assert lines["ResNet-50", "MACs"].agrees and lines["SE-ResNet-101", "MACs"].counted == 7_574_937_600
    assert lines["SE-ResNet-152", "MACs"].explanation.endswith("the printed number")
    assert lines["SE-ResNet-101", "MACs"].explanation.endswith("unexplained")


_SE_STAGES = ((3, 256), (4, 512), (6, 1024), (3, 2048))


def test_nasnet_and_the_networks_of_its_table():
    counted = counts("nasnet")
    assert counted["NASNet-A (4 @ 1056)", "parameters"] == 5_289_978
    assert counted["NASNet-A (6 @ 4032)", "MACs"] == 23_783_414_658
    assert counted["Inception-ResNet V2", "parameters"] == 55_843_464
    assert counted["ResNeXt-101 (64×4d)", "MACs"] == 31_549_440_000
    lines = {(line.row, line.quantity): line for line in compare("nasnet").lines}
    assert "88,949,818" in lines["NASNet-A (6 @ 4032)", "parameters"].explanation
    assert "nothing in the table explains" in lines["SENet", "parameters"].explanation


def test_a_network_is_traced_once():
    assert profiled("alexnet") is profiled("alexnet")


def test_published_errors_belong_to_rawcnn_s_networks():
    names = [row.model for row in ERRORS]
    assert len(set(names)) == len(names) and set(names) <= set(MODELS)
    for row in ERRORS:
        assert set(row.parents) <= set(names) - {row.model}, row
        assert 0 < (row.top5 or 1) < row.top1 < 50 and row.protocol in ("1 crop", "10 crops", "dense"), row


def test_googlenet_stem_and_modules():
    weights, macs = separable_stem()
    assert (weights, round(macs / 1e6, 2)) == (2712, 34.02)
    counted = {(line.row, line.quantity): line.counted for line in compare("googlenet").lines}
    assert counted["inception_3a", "weights"] == 163_328
    assert counted["inception_3a", "MACs"] == 128_049_152
    assert counted["conv1", "weights"] == 9_408
    assert counted["whole network", "MACs"] == 1_582_671_872


def test_alexnet_neurons_sum():
    lines = {line.row: line for line in compare("alexnet").lines if line.quantity == "neurons"}
    assert lines["whole network"].counted == 659_272
    assert lines["conv1"].counted == 290_400 and not lines["conv1"].agrees


def test_unknown_paper_lists_the_known():
    with pytest.raises(ValueError, match="alexnet, vgg, googlenet, resnet"):
        compare("lenet")
