"""How results show themselves in notebooks: a line of text, and a table as HTML or a picture as PNG.

`import rawcnn` calls `register` where IPython runs. A type is registered by its name, so this module imports neither
the module that defines it, nor TensorFlow, nor matplotlib, until a result is shown. Below this module nothing knows
about notebooks.

    In [1]: import rawcnn
    In [2]: rawcnn.profile("alexnet")  # shows a table
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from rawcnn.attacks import AttackResult, FoolingImages
    from rawcnn.data import DataSet
    from rawcnn.nn.backpropagation import Backward
    from rawcnn.nn.network import Network
    from rawcnn.nn.trace import Forward
    from rawcnn.papers.comparison import Comparison
    from rawcnn.profiling.costs import Profile
    from rawcnn.visualize import Deconvolution, Excitation, Optimized, Saliency, TopInput
    from rawcnn.visualize.dataset_examples import InputsByChannel

SHOWN = 8  # images or channels of a picture, and images of a table
EXAMPLES = 3  # rows of an attack's picture
PER_CHANNEL = 5  # inputs of each channel
TILE = 64  # pixels of an input's side
DPI = 80  # pixels per inch of pictures
LONG = 40  # letters; a cell with more gets a width in which it can be read


class Display(NamedTuple):
    """How a type shows itself: functions of the result. The richest form that a front end knows is shown."""

    text: Callable[[Any], str]
    html: Callable[[Any], str] | None = None
    png: Callable[[Any], bytes | None] | None = None


def register(shell: Any = None) -> None:
    """Let results show themselves in IPython. Called a second time, it changes nothing.

    Args:
        shell: The IPython shell; by default the one that runs. Without one this does nothing.
    """
    ipython = sys.modules.get("IPython")
    shell = shell or (ipython and ipython.get_ipython())
    if shell is None:
        return
    formatters = shell.display_formatter.formatters
    for (module, name), display in DISPLAYS.items():
        formatters["text/plain"].for_type_by_name(module, name, _printer(display.text))
        if display.html:
            formatters["text/html"].for_type_by_name(module, name, display.html)
        if display.png:
            formatters["image/png"].for_type_by_name(module, name, display.png)


load_ipython_extension = register  # %load_ext rawcnn.notebook, where rawcnn was imported before IPython began


def _printer(text: Callable[[Any], str]) -> Callable[[Any, Any, bool], None]:
    """A text formatter in the form that IPython calls."""

    def show(result: Any, printer: Any, cycle: bool) -> None:
        printer.text(text(result))

    return show


# Tables ----------------------------------------------------------------------------------------------------------


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """Return an HTML table that scrolls. All text is escaped, and numbers are aligned to the right.

    Args:
        title: The text above the table.
        header: The names of the columns.
        rows: The cells; whole numbers get commas, and None is empty.
        notes: Paragraphs below the table.

    Returns:
        The HTML. Its styles are inline, because front ends show a result without a page of its own.
    """
    rows = list(rows)
    sides = [_side(value) for value in (rows[0] if rows else header)]
    named = zip(header, sides, strict=True)
    head = "".join(f'<th scope="col" style="text-align:{side}">{escape(name)}</th>' for name, side in named)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<div><p><strong>{escape(title)}</strong></p>\n<div style="max-height:26em;overflow:auto">'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>{below}</div>"
    )


def _side(value: object) -> str:
    return "right" if isinstance(value, int | float) else "left"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        text = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    else:
        text = escape("" if value is None else str(value))
    width = ";min-width:20em" if len(text) > LONG else ""
    return f'<td style="text-align:{_side(value)}{width}">{text}</td>'


def _shape(shape: Sequence[int | None]) -> str:
    """A shape without the batch: "55×55×96"."""
    return "×".join("?" if length is None else str(length) for length in shape[1:])


def profile_text(profile: Profile) -> str:
    """Name the model and its totals."""
    size = profile.size if isinstance(profile.size, int) else "×".join(map(str, profile.size))
    totals = profile.totals
    return (
        f"Profile({profile.model}, batch {profile.batch}, {size} px, {profile.precision}: "
        f"{totals['parameters']:,} parameters, {totals['macs']:,} MACs, {len(profile.rows)} operations)"
    )


def profile_html(profile: Profile) -> str:
    """Return a row for each operation, and the totals below."""
    header = ("operation", "kind", "output", "parameters", "MACs", "FLOPs forward", "FLOPs backward", "receptive field")
    rows = (
        (
            row["name"],
            row["kind"],
            _shape(row["output_shape"]),
            row["parameters"],
            row["macs"],
            row["flops_forward"],
            row["flops_backward"],
            row["receptive_field"] or "image",
        )
        for row in profile.rows
    )
    totals = profile.totals
    note = (
        f"In all {totals['parameters']:,} parameters, {totals['macs']:,} MACs, {totals['flops_forward']:,} FLOPs "
        f"forward, {totals['flops_backward']:,} backward, and {totals['activation_bytes'] / 2**20:,.1f} MiB of "
        "activations. FLOPs are 2 × MACs plus the elementwise operations."
    )
    return table(profile_text(profile), header, rows, [note])


def comparison_text(comparison: Comparison) -> str:
    """Say how many numbers agree."""
    agreeing = sum(line.agrees for line in comparison.lines)
    return f"Comparison({comparison.name}: {agreeing} of {len(comparison.lines)} printed numbers agree)"


def comparison_html(comparison: Comparison) -> str:
    """Return a row for each printed number."""
    notes = [f"Source: {comparison.source}.", *comparison.notes]
    agreeing = sum(line.agrees for line in comparison.lines)
    title = f"{comparison.title}: {agreeing} of {len(comparison.lines)} printed numbers agree with the counts"
    rows = (
        (x.row, x.quantity, x.printed, round(x.counted), "✓" if x.agrees else "differs", x.explanation)
        for x in comparison.lines
    )
    return table(title, comparison.columns, rows, notes)


def network_html(network: Network) -> str:
    """Return a row for each operation of inference."""
    header = ("operation", "kind", "reads", "output", "parameters", "MACs", "receptive field")
    rows = (
        (
            x.name,
            x.kind,
            ", ".join(x.inputs),
            _shape(x.output_shape),
            sum(p.count for p in x.parameters if p.trained),
            x.cost.macs,
            x.receptive_field.size or "image",
        )
        for x in network.operations
    )
    return table(repr(network), header, rows)


def forward_text(forward: Forward) -> str:
    """Say how much a forward pass computed."""
    shape = "×".join(map(str, forward.logits.shape))
    return f"Forward(logits {shape}, {len(forward.activations)} activations, {len(forward.statistics)} statistics)"


def forward_html(forward: Forward) -> str:
    """Return the most probable class of the first images, and a row with the range of each activation."""
    header = ("activation", "shape", "smallest", "mean", "largest", "zeros")
    rows = ((name, _shape(x.shape), *_range(x)) for name, x in forward.activations.items())
    return _predictions(forward) + table(forward_text(forward), header, rows)


def _predictions(forward: Forward) -> str:
    """A table of the predicted classes; nothing while a function is traced, because there are no values."""
    import tensorflow as tf

    if tf.is_symbolic_tensor(forward.logits):
        return ""
    probabilities = tf.nn.softmax(forward.logits[:SHOWN]).numpy()  # [B,K]
    rows = ((n, int(row.argmax()), f"{row.max():.1%}") for n, row in enumerate(probabilities))
    return table("Most probable class", ("image", "class", "probability"), rows)


def _range(x: Any) -> tuple[object, ...]:
    """Smallest, mean and largest value, and the share of zeros; nothing while a function is traced."""
    import numpy as np
    import tensorflow as tf

    if tf.is_symbolic_tensor(x) or not tf.size(x):
        return ("", "", "", "")
    values = tf.cast(x, tf.float64 if x.dtype == tf.float64 else tf.float32).numpy()
    return (
        *(float(of(values)) for of in (np.min, np.mean, np.max)),
        f"{np.mean(values == 0):.1%}",
    )


def backward_text(backward: Backward) -> str:
    """Say how much a backward pass computed."""
    return f"Backward({len(backward.parameters)} parameters, {len(backward.activations)} activations)"


def backward_html(backward: Backward) -> str:
    """Return the size of the gradients to variables, and of those to activations."""
    import tensorflow as tf

    if tf.is_symbolic_tensor(backward.loss):
        return f"<p>{escape(backward_text(backward))}</p>"
    header = ("gradient to", "shape", "norm", "largest magnitude")
    parts: Sequence[tuple[str, Mapping[str, Any]]] = (
        (f"Gradients of the loss {float(backward.loss):.6g} to the variables", backward.parameters),
        ("and to the activations", backward.activations),
    )
    return "".join(
        table(title, header, ((name, "×".join(map(str, g.shape)), *_norms(g)) for name, g in gradients.items()))
        for title, gradients in parts
    )


def _norms(gradient: Any) -> tuple[float, float]:
    """The Euclidean norm and the largest magnitude."""
    import tensorflow as tf

    wide = tf.cast(gradient, tf.float64)
    return float(tf.norm(wide)), float(tf.reduce_max(tf.abs(wide)))


# Pictures --------------------------------------------------------------------------------------------------------


def _class_numbers(count: int) -> list[str]:
    """The names of classes in results that know only their numbers."""
    return [f"class {number}" for number in range(count)]


def data_text(data: DataSet) -> str:
    """Name the data set, and say how many images it has."""
    splits = ", ".join(f"{data.count(split):,} {split}" for split in data.splits)
    return f"DataSet({data.name}, {len(data.labels)} classes, {'×'.join(map(str, data.size))} px, images: {splits})"


def data_png(data: DataSet) -> bytes | None:
    """Draw the first images of each split."""
    rows, titles = {}, []
    for split, content in data.splits.items():
        count = min(SHOWN, data.count(split))
        rows[split] = list(data.take(split, range(count)))
        titles.append([data.labels[label] for label in content.labels[:count]])
    return _rows(rows, titles)


def attack_text(result: AttackResult) -> str:
    """Say how successful an attack was."""
    if not len(result.labels):
        return f"{type(result).__name__}(0 images)"
    found = result.summary()
    rate = "none attempted" if found["success_rate"] is None else f"success {found['success_rate']:.1%}"
    return (
        f"{type(result).__name__}({found['images']} images: accuracy {found['accuracy_before']:.1%} → "
        f"{found['accuracy_after']:.1%}, {rate}, largest change of a pixel {found['max_linf']:.3g})"
    )


def attack_png(result: AttackResult) -> bytes | None:
    """Draw the first images, those that fool the network before the others: original, difference and attacked image."""
    from dataclasses import fields, replace

    import numpy as np

    from rawcnn.plots import figures

    if not len(result.labels):
        return None
    first = np.argsort(~(result.success & ~result.already_wrong), kind="stable")[:EXAMPLES]
    arrays: dict[str, Any] = {f.name: getattr(result, f.name) for f in fields(result)}
    arrays = {name: None if value is None else value[first] for name, value in arrays.items()}
    shown = replace(result, **arrays)
    classes = int(max(shown.predictions.max(), shown.predictions_before.max())) + 1
    return figures.encoded(figures.examples(shown, _class_numbers(classes), EXAMPLES), dpi=DPI)


def fooling_text(found: FoolingImages) -> str:
    """Say how confident the network is."""
    return (
        f"FoolingImages({found.encoding}, {len(found.images)} classes, median confidence "
        f"{found.summary()['median_confidence']:.1%})"
    )


def fooling_png(found: FoolingImages) -> bytes:
    """Draw the image of each class."""
    from rawcnn.plots import figures

    return figures.encoded(figures.fooling_images(found, _class_numbers(len(found.images))), dpi=DPI)


def optimized_text(optimized: Optimized) -> str:
    """Name the values that the images reach."""
    return f"Optimized({_images(optimized.images)}, objective {_numbers(optimized.values)})"


def optimized_png(optimized: Optimized) -> bytes | None:
    """Draw the images with their values."""
    titles = [f"objective {value:.4g}" for value in optimized.values[:SHOWN]]
    return _rows({"optimized": list(optimized.images[:SHOWN])}, [titles])


def deconvolution_text(deconvolution: Deconvolution) -> str:
    """Name the activations."""
    return f"Deconvolution({_images(deconvolution.pictures)}, activations {_numbers(deconvolution.activations)})"


def deconvolution_png(deconvolution: Deconvolution) -> bytes | None:
    """Draw each projection around gray, and cropped at its receptive field if that is smaller than the image."""
    import numpy as np

    from rawcnn.visualize import diverging

    shown = np.nan_to_num(deconvolution.pictures[:SHOWN])
    places = zip(deconvolution.activations, deconvolution.positions, strict=True)
    titles = [f"{value:.4g} at ({row}, {column})" for value, (row, column) in list(places)[:SHOWN]]
    pictures = [diverging(picture) for picture in shown]
    boxes = deconvolution.boxes[:SHOWN]
    crops = [x[top:bottom, left:right] for x, (top, left, bottom, right) in zip(pictures, boxes, strict=True)]
    rows = {"projection": pictures, "receptive field": crops}
    if all(crop.shape == picture.shape for crop, picture in zip(crops, pictures, strict=True)):
        del rows["receptive field"]
    return _rows(rows, [titles, [""] * len(crops)][: len(rows)])


def saliency_text(saliency: Saliency) -> str:
    """Name the classes and their logits."""
    return (
        f"Saliency({_images(saliency.maps)}, classes {_numbers(saliency.classes)}, logits {_numbers(saliency.logits)})"
    )


def saliency_png(saliency: Saliency) -> bytes | None:
    """Draw the gray maps."""
    from rawcnn.visualize import saliency_pictures

    titles = [f"class {k}, logit {value:.3g}" for k, value in zip(saliency.classes, saliency.logits, strict=True)]
    return _rows({"saliency": saliency_pictures(saliency)[:SHOWN]}, [titles[:SHOWN]])


def inputs_text(found: InputsByChannel) -> str:
    """Say how many inputs of how many channels there are."""
    count = max(map(len, found.values()), default=0)
    return f"InputsByChannel({len(found)} channels, up to {count} inputs of each)"


def inputs_png(found: InputsByChannel) -> bytes | None:
    """Draw a row for each of the first channels: receptive fields, each next to its image."""
    shown = dict(list(found.items())[:SHOWN])
    return _input_rows({f"channel {channel}": inputs[:PER_CHANNEL] for channel, inputs in shown.items()})


def excitation_text(excitation: Excitation) -> str:
    """Name the channel and its largest activation."""
    return f"Excitation(channel {excitation.channel}, {excitation.images:,} images, largest {excitation.largest:.4g})"


def excitation_png(excitation: Excitation) -> bytes | None:
    """Draw the images that activate the channel most, examples between them, and those that activate it least."""
    parts: dict[str, Sequence[TopInput]] = {
        "most": excitation.top[:PER_CHANNEL],
        "between": [shown for _, shown in reversed(excitation.quantiles)][:PER_CHANNEL],
        "least": excitation.bottom[:PER_CHANNEL],
    }
    return _input_rows({name: inputs for name, inputs in parts.items() if inputs})


def top_input_text(shown: TopInput) -> str:
    """Name the image and its activation."""
    return (
        f"TopInput(channel {shown.channel}, image {shown.index}, activation {shown.activation:.4g} at {shown.position})"
    )


def top_input_png(shown: TopInput) -> bytes | None:
    """Draw the receptive field next to the image."""
    return _input_rows({f"channel {shown.channel}": [shown]})


def _input_rows(rows: Mapping[str, Sequence[TopInput]]) -> bytes | None:
    """A PNG with rows of inputs. Each is a receptive field, and to its right the image with its box."""
    from rawcnn.visualize import contact_sheet

    pictures = {name: [contact_sheet([x], tile=TILE, gap=0) for x in inputs] for name, inputs in rows.items()}
    titles = [[f"image {x.index}: {x.activation:.3g}" for x in inputs] for inputs in rows.values()]
    return _rows(pictures, titles)


def _rows(rows: Mapping[str, Sequence[np.ndarray]], titles: Sequence[Sequence[str]]) -> bytes | None:
    """A PNG with rows of pictures; nothing if there are none."""
    from rawcnn.plots import figures

    if not any(map(len, rows.values())):
        return None
    return figures.encoded(figures.picture_rows(rows, titles), dpi=DPI)


def _images(images: np.ndarray) -> str:
    count, height, width, _ = images.shape
    return f"{count} images of {height}×{width}"


def _numbers(values: Sequence[float] | np.ndarray) -> str:
    """The first numbers of a list."""
    return ", ".join(f"{value:.4g}" for value in values[:SHOWN]) + (", …" if len(values) > SHOWN else "")


DISPLAYS: dict[tuple[str, str], Display] = {  # (module, name) of a type
    ("rawcnn.profiling.costs", "Profile"): Display(profile_text, html=profile_html),
    ("rawcnn.papers.comparison", "Comparison"): Display(comparison_text, html=comparison_html),
    ("rawcnn.data.dataset", "DataSet"): Display(data_text, png=data_png),
    ("rawcnn.nn.network", "Network"): Display(repr, html=network_html),
    ("rawcnn.nn.trace", "Forward"): Display(forward_text, html=forward_html),
    ("rawcnn.nn.backpropagation", "Backward"): Display(backward_text, html=backward_html),
    ("rawcnn.attacks.result", "AttackResult"): Display(attack_text, png=attack_png),
    ("rawcnn.attacks.spatial_search", "SpatialResult"): Display(attack_text, png=attack_png),
    ("rawcnn.attacks.evolution", "FoolingImages"): Display(fooling_text, png=fooling_png),
    ("rawcnn.visualize.optimization", "Optimized"): Display(optimized_text, png=optimized_png),
    ("rawcnn.visualize.deconvolution", "Deconvolution"): Display(deconvolution_text, png=deconvolution_png),
    ("rawcnn.visualize.saliency", "Saliency"): Display(saliency_text, png=saliency_png),
    ("rawcnn.visualize.dataset_examples", "InputsByChannel"): Display(inputs_text, png=inputs_png),
    ("rawcnn.visualize.dataset_examples", "Excitation"): Display(excitation_text, png=excitation_png),
    ("rawcnn.visualize.dataset_examples", "TopInput"): Display(top_input_text, png=top_input_png),
}
