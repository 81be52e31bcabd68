"""Write the explanation of a network on one image as a folder with an offline page.

`rawcnn.explain.document` describes the document that the page computes from. The scripts in `explanation/` do the
arithmetic, and others say how it is shown. SCRIPTS lists them in the order in which they are loaded; each begins with
what it uses of the page and of the other scripts. The arithmetic: arrays.js reads tensors, terms.js has the terms of
sums, windows.js the geometry; forward.js computes one output of each kind of operation, input_gradients.js and
parameter_gradients.js one gradient of each kind, which backward.js chooses; recipe_step.js takes one step of training.
The text: numbers.js, forward_presentation.js, backward_presentation.js, recipe_presentation.js, and cancellation.js,
which finds sums that lose digits. The drawing: elements.js, maps.js, explanation_view.js, choices.js,
backward_controls.js, backward_view.js and view.js; keyboard.js moves the focus, and address.js keeps the place in the
page's address. The page's security policy allows no other script.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from rawcnn.explain.explanation import Explanation
from rawcnn.explain.units import as_map
from rawcnn.nn.kinds import NAMES
from rawcnn.report.data_uri import data_uri
from rawcnn.report.folder import report_folder
from rawcnn.report.html import read, render
from rawcnn.report.page import si

# In the order in which the page loads them, which is a good order to read them in
SCRIPTS = (
    "arrays.js", "terms.js", "windows.js", "forward.js", "input_gradients.js", "parameter_gradients.js", "backward.js",
    "recipe_step.js", "numbers.js", "forward_presentation.js", "backward_presentation.js", "recipe_presentation.js",
    "cancellation.js", "elements.js", "maps.js", "explanation_view.js", "choices.js", "backward_controls.js",
    "backward_view.js", "keyboard.js", "address.js", "view.js",
)  # fmt: skip
MAPS = 8  # of an operation's strip
THUMBNAIL = 24  # pixels: the longer side of a map of the strip, at most
MANY = 300  # operations; the strips of a network with more have half the size


def write_explanation(explanation: Explanation, folder: str | Path) -> Path:
    """Write `index.html` into a folder.

    Args:
        explanation: What `rawcnn.explain.explain` returns.
        folder: The folder; it is created. It changes only when the page is complete.

    Returns:
        The page's path.

    Raises:
        ValueError: The folder cannot be written.
    """
    html = explanation_page(explanation)
    with report_folder(folder) as temporary:
        (temporary / "index.html").write_text(html, encoding="utf-8")
    return Path(folder) / "index.html"


def explanation_page(explanation: Explanation) -> str:
    """Return the page as one HTML file."""
    document, recording = explanation.document, explanation.recording
    script = "\n".join(['"use strict";', *(read(f"explanation/{name}") for name in SCRIPTS)])
    strips = _strips(explanation)
    cards = {one["name"]: _card(one, strips.get(one["name"], "")) for one in document["operations"]}
    return render(
        "explanation/page.html",
        styles=("explanation/page.css", "explanation/backward.css"),
        title=document["title"],
        lead=document["lead"],
        picture=data_uri(recording.tensors["images"]),
        facts=_facts(document),
        warning=explanation.warning,
        sources=[_source(number, document, cards) for number in range(len(document["sources"]))],
        embedded=[one["name"] for one in document["operations"] if one["selection"]],
        before=cards["preprocessed"],
        after=cards["loss"],
        document=document,
        arrays=Markup(explanation.arrays),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (meaning, value) of what stands next to the image."""
    image, recipe, smoothing = document["image"], document["recipe"]["name"], document["loss"]["smoothing"]
    return [
        ("predicted class", image["names"][image["predicted"]]),
        ("class of the loss", image["names"][image["label"]]),
        ("loss", f"{document['loss']['value']:.5g}"),
        ("parameters", f"{document['network']['parameters']:,}"),
        ("recipe", f"{recipe}, label smoothing {smoothing:g}" if smoothing else recipe),
    ]


def _source(number: int, document: dict[str, Any], cards: dict[str, dict]) -> dict[str, Any]:
    """Return a file with what each of its lines applies: cards where a layer is called, links where its caller is."""
    source = document["sources"][number]
    applied: dict[int, list[dict]] = {}  # line → groups of cards
    called: dict[int, dict[str, list[str]]] = {}  # line → iteration → names
    for operation in document["operations"]:
        lines: set[int] = set()  # where the operation stands; a comprehension has its line twice on the call stack
        for depth, place in enumerate(operation["places"]):
            line = place["line"]
            if place["source"] != number or line in lines:
                continue
            lines.add(line)
            if depth == 0:
                _add_card(applied.setdefault(line, []), cards[operation["name"]], operation["places"][1:2], document)
            else:
                iterations = called.setdefault(line, {})
                iterations.setdefault(", ".join(place["loops"]), []).append(operation["name"])
    lines_of_file = [
        {"number": line, "text": text, "groups": applied.get(line, []), "called": called.get(line, {})}
        for line, text in enumerate(source["lines"], start=1)
    ]
    for one in lines_of_file:
        one["indent"] = len(one["text"]) - len(one["text"].lstrip())  # where a line that wraps continues
        cards_here = [card["name"] for group in one["groups"] for card in group["cards"]]
        links = [name for names in one["called"].values() for name in names]
        one["count"], one["first"] = len(cards_here), next(iter(cards_here + links), None)
    return {"number": number, "file": source["file"], "lines": lines_of_file}


def _add_card(groups: list[dict[str, Any]], card: dict, caller: list[dict[str, Any]], document: dict[str, Any]) -> None:
    """Add a card to the groups of a line: operations in a row that the same line called stand together."""
    line = (caller[0]["source"], caller[0]["line"]) if caller else None
    if not groups or groups[-1]["caller"] != line:
        text = document["sources"][line[0]]["lines"][line[1] - 1].strip() if line else ""
        groups.append({"caller": line, "text": text, "cards": []})
    groups[-1]["cards"].append(card)


def _card(operation: dict[str, Any], strip: str) -> dict[str, Any]:
    """Return what stands below a line of the source about an operation."""
    loops = [loop for place in reversed(operation["places"]) for loop in place["loops"]]
    return {
        "name": operation["name"],
        "kind": NAMES[operation["kind"]],
        "iteration": ", ".join(dict.fromkeys(loops)),
        "lines": _lines(operation),
        "embedded": operation["selection"] is not None,
        "strip": strip,
    }


def _lines(operation: dict[str, Any]) -> list[str]:
    """Return the counts and the statistics of an operation as two lines."""
    counts, found = operation["counts"], operation["statistics"]
    if counts is None:
        return ["×".join(map(str, operation["shape"]))]
    field = counts["receptive_field"]
    parts = [
        "×".join(map(str, counts["output_shape"][1:])),
        f"{counts['parameters']:,} parameters" if counts["parameters"] else "",
        f"{si(counts['macs'])} MACs" if counts["macs"] else "",
        f"receptive field {field} px" if field else "receptive field: the image",
    ]
    values = [
        f"min {_number(found['minimum'])}",
        f"mean {_number(found['mean'])}",
        f"max {_number(found['maximum'])}",
        f"zeros {_number(found['zeros'] and 100 * found['zeros'])} %",
        f"gradient {_number(found['gradient_norm'])}",
        f"{1000 * found['seconds']:.3g} ms",
    ]
    return [" · ".join(part for part in parts if part), " · ".join(values)]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}".replace("-", "−")


def _strips(explanation: Explanation) -> dict[str, str]:
    """Return a strip of activation maps for each operation, as a picture in a data: URI."""
    recording = explanation.recording
    side = THUMBNAIL if len(recording.operations) <= MANY else THUMBNAIL // 2
    return {op.name: data_uri(strip(recording.tensors[op.name], side)) for op in recording.operations}


def strip(activation: np.ndarray, side: int = THUMBNAIL) -> np.ndarray:
    """Draw the maps of the channels with the largest values side by side.

    Args:
        activation: [H,W,C] or [C].
        side: The longer side of a map in pixels, at most.

    Returns:
        [h,w,3] in [0,1], gray: black is the smallest and white the largest of these values. A vector is one row.
    """
    values = np.nan_to_num(as_map(activation).astype(np.float64), posinf=0, neginf=0)
    if values.shape[:2] == (1, 1):
        gray = values[0, :, : MAPS * side]  # [1,C]
    else:
        step = -(-max(values.shape[:2]) // side)
        best = np.argsort(-values.max((0, 1)), kind="stable")[:MAPS]
        maps = np.pad(values[::step, ::step, best], ((0, 0), (0, 1), (0, 0)), constant_values=values.min())
        gray = np.concatenate(list(np.moveaxis(maps, -1, 0)), axis=1)  # [h, MAPS·(w + 1)]
    spread = np.ptp(gray) or 1.0
    return np.repeat(((gray - gray.min()) / spread)[..., None], 3, axis=-1)
