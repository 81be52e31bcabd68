"""The family tree and the cards: the numbers are the profile's, and the diagrams show the trace's operations."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure as Canvas

from rawcnn.nn.layers import concatenate, conv, conv_bn_relu, dense, dropout, max_pool
from rawcnn.nn.trace import symbolic_trace
from rawcnn.papers.comparison import profiled
from rawcnn.papers.imagenet_errors import ERRORS
from rawcnn.plots import themed as plots
from rawcnn.report.diagram import WIDTH, diagram
from rawcnn.report.layering import place
from rawcnn.report.page import Chapter, Page
from rawcnn.report.sections import zoo
from rawcnn.report.stages import block_of, graph, repeated, stages
from rawcnn.report.tree import Member, family_tree
from tests.rawcnn.report.test_report import HOSTILE, check_offline

NAMES = [row.model for row in ERRORS]


@pytest.mark.sample(5)
@pytest.mark.parametrize("row", ERRORS, ids=NAMES)
def test_a_card_has_the_profiles_totals(row):
    profile = profiled(row.model)
    facts = dict(zoo.card(row, profile).facts)
    assert facts["parameters"] == f"{profile.totals['parameters']:,}"
    assert facts["MACs"] == f"{profile.totals['macs']:,}"
    field = profile.totals["receptive_field"]
    assert facts["sees"] == ("the whole image" if field is None else f"{field:,} pixels, stride 32")
    assert (facts["sees"] == "the whole image") == row.model.startswith("se")


@pytest.mark.sample(5)
@pytest.mark.parametrize("name", NAMES)
def test_stages_hold_all_of_a_network(name):
    profile = profiled(name)
    found = stages(profile.operations)
    blocks = [block for stage in found for block in stage.blocks]
    dropped = {x.name for x in profile.operations if x.kind == "dropout"}
    assert sorted(blocks) == sorted({block_of(x.name) for x in profile.operations} - dropped)
    assert sum(stage.parameters for stage in found) == profile.totals["parameters"]
    assert sum(stage.macs for stage in found) == profile.totals["macs"]


@pytest.mark.sample(5)
@pytest.mark.parametrize("name", NAMES)
def test_a_diagram_is_xml_with_every_stage_once(name):
    operations = profiled(name).operations
    svg = ElementTree.fromstring(diagram(name, operations))
    titles = [
        group[1 if group[0].tag == "rect" else 0].text for group in svg.iter("g") if group.get("class") == "stage"
    ]
    found = stages(operations)
    assert [title.split(",")[0] for title in titles] == [stage.name for stage in found]
    widths = [float(bar.get("width")) for bar in svg.iter("rect") if bar.get("class") == "macs"]
    assert sum(widths) == pytest.approx(WIDTH - 2, abs=0.1 * len(widths))


def test_stages_of_resnet50():
    found = stages(profiled("resnet50").operations)
    assert [stage.name for stage in found] == [
        *("conv1", "pool1", "conv2_1 – conv2_3", "conv3_1 – conv3_4", "conv4_1 – conv4_6", "conv5_1 – conv5_3"),
        *("pool5", "classifier"),
    ]
    assert found[0].content == "7×7 / 2" and found[0].map == "112×112 × 64"
    assert found[4].content == "6 blocks, 19 layers" and found[4].map == "14×14 × 1,024"
    assert found[1].content == "3×3 / 2" and found[-1].map == "1,000"
    assert repeated(found) == (found[4], "conv4_6")
    assert repeated(stages(profiled("vgg16").operations)) is None


def test_the_inside_of_a_bottleneck():
    nodes = graph(profiled("resnext50").operations, "conv4_6")
    assert {key: (node.title, node.detail, node.sources) for key, node in nodes.items()} == {
        "← conv4_5": ("conv4_5", "", ()),
        "conv1": ("1×1", "512", ("← conv4_5",)),
        "conv2": ("3×3", "512, 32 groups", ("conv1",)),
        "conv3": ("1×1", "1,024", ("conv2",)),
        "": ("+", "", ("conv3", "← conv4_5")),
    }


@pytest.mark.deeper
def test_the_inside_of_a_searched_cell():
    nodes = graph(profiled("nasnet_mobile").operations, "normal_4")
    assert [node.title for node in nodes.values() if node.outside] == ["normal_2", "normal_3"]
    assert sum(node.title == "sep" for node in nodes.values()) == 5
    assert nodes["left1"].detail == "5×5" and nodes["sum1"].sources == ("left1", "right1")
    assert nodes["sum5"].sources == ("left5", "squeeze")
    assert nodes[""].sources == ("adjust", "sum1", "sum2", "sum3", "sum4", "sum5")


@pytest.mark.sample("^googlenet$", "^resnet50$", "^senet154$", "^nasnet_mobile$")
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("alexnet", "vgg"))])
def test_boxes_stand_apart_and_below_what_they_read(name):
    operations = profiled(name).operations
    _, block = repeated(stages(operations))
    nodes = graph(operations, block)
    edges = [(source, key) for key, node in nodes.items() for source in node.sources]
    layout = place({key: (30, 20) for key in nodes}, edges, WIDTH)
    assert all(15 <= x <= WIDTH - 15 and 10 <= y <= layout.height - 10 for x, y in layout.centers.values())
    for (x, y), (other_x, other_y) in combinations(layout.centers.values(), 2):
        assert abs(x - other_x) >= 30 or abs(y - other_y) >= 20
    for (source, target), route in zip(edges, layout.routes, strict=True):
        assert layout.centers[source][1] < layout.centers[target][1]
        heights = [y for _, y in route]
        assert heights == sorted(heights)


def test_hostile_names_are_text():
    name = HOSTILE.replace("/", "|")

    def model(net, x):
        for number in (1, 2):
            a = conv_bn_relu(net, f"{name}_{number}/{name}", x, 4, 3)
            b = conv(net, f"{name}_{number}/b", x, 4, 1)
            x = concatenate(
                net, f"{name}_{number}", [a, max_pool(net, f"{name}_{number}/pool", b, 1, 1, padding="VALID")]
            )
        return dense(net, f"{name}fc", dropout(net, "drop", x, 0.5), 2)

    drawing = diagram(name, symbolic_trace(model, (1, 8, 8, 3)).operations)
    svg = ElementTree.fromstring(drawing)
    assert {element.tag for element in svg.iter()} == {"svg", "g", "rect", "path", "text", "tspan"}
    texts = [element.text for element in svg.iter("text")]
    assert texts.count(f"{name}_1 – {name}_2") == 1 and f"Inside {name}_2, one of 2" in texts
    assert name in svg.get("aria-label")


def members() -> list[Member]:
    """The tree of the table of errors, with costs that need no trace."""
    return [
        Member(row.model, row.family, row.parents, 1e9 * (1 + number % 7), row.top1, 2e7, not row.is_single_crop)
        for number, row in enumerate(ERRORS)
    ]


def test_the_tree_has_every_network_and_every_arrow():
    canvas = Canvas(figsize=(5.3, 6.2), layout="constrained")
    family_tree(members())(canvas, plots.LIGHT)
    (axes,) = canvas.axes
    labels = [text for text in axes.texts if text.get_text()]
    assert sorted(text.get_text() for text in labels) == sorted(NAMES)
    arrows = [text for text in axes.texts if text.arrow_patch is not None]
    assert len(arrows) == sum(len(row.parents) for row in ERRORS)
    canvas.draw_without_rendering()
    assert all(axes.bbox.contains(*text.get_window_extent().get_points().mean(axis=0)) for text in labels)


def test_the_sections_of_the_zoo(tmp_path):
    sections = tuple(zoo.diagrams({name: profiled(name) for name in NAMES}))
    html = Page("Zoo", "lead", (Chapter("The family", sections),)).render()
    check_offline(html, tmp_path)
    table = sections[0].blocks[-1]
    assert [row[0] for row in table.rows] == NAMES == [card.title for s in sections[2:] for card in s.blocks[0].cards]
    assert table.rows[0][1:4] == ("40.7", "18.2", "10 crops")
    assert zoo.percent(27.0) == "27.0" and zoo.percent(18.68) == "18.68"
