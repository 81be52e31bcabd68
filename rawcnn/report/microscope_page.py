"""The report of a training run under the microscope: one page in the run's folder, drawn from the run's own file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rawcnn import __version__
from rawcnn.nn.network import Network
from rawcnn.plots import microscope as plots
from rawcnn.plots import themed
from rawcnn.report.album import Album
from rawcnn.report.folder import report_folder
from rawcnn.report.page import Block, Chapter, Facts, Page, Section, Strip, Strips, Table, Text
from rawcnn.training.depth_gradients import first_over_last
from rawcnn.training.observations import Observations
from rawcnn.visualize.filters import over_rgb

WIDE, HIGH = 4.6, 2.7  # inches of a plot
ROWS = 80  # at most so many layers in a table
FILTERS, EPOCHS = 12, 8  # at most so many filters and epochs in the pictures
ENLARGED = 48  # pixels: a filter is enlarged to about this
USUAL = 1e-3  # ratio of update and weight


def write_page(
    folder: Path, network: Network, observations: Observations, history: Sequence[Mapping[str, float]], settings: str
) -> Path:
    """Write `index.html` and its pictures.

    Args:
        folder: The folder of the page.
        network: The network of the run.
        observations: What the microscope measured, one epoch or more.
        history: The summaries of the run's epochs.
        settings: What was trained, for the foot of the page.

    Returns:
        The page's path.

    Raises:
        ValueError: The folder cannot be written.
    """
    with report_folder(folder) as temporary:
        album = Album(temporary)
        chapters = [_activations(observations, album), _gradients(network, observations, album)]
        if history:
            chapters.insert(0, _run(history, album))
        chapters.append(_first_layer(network, observations, album))
        page = Page(
            f"{network.name} under the microscope",
            "What training does to each layer. The same batch of training images is measured before the first epoch "
            "and after each: one forward pass, and one backward pass by the gradients that the kernels write out.",
            tuple(chapters),
            _facts(observations),
            f"Made by rawcnn {__version__} from microscope.npz. {settings}",
        )
        (temporary / "index.html").write_text(page.render(), encoding="utf-8")
    return folder / "index.html"


def _facts(seen: Observations) -> Facts:
    """The most important values of the last epoch."""
    last = seen.rows[-1]
    items = [(str(last.epoch), "epochs are done")]
    if len(seen.layers.relus):
        items.append((_percent(last.values["dead_units"].mean()), "of the ReLU units of a layer are dead, on average"))
    ratio = float(np.median(last.values["update_ratio"]))
    items.append((f"{ratio:.1e}", "is the median ratio of update and weight"))
    factor = first_over_last(dict(zip(seen.layers.weights, last.values["weight_gradient_norm"], strict=True)))
    items.append((f"{factor:.2g}", "is the gradient norm of the first convolution divided by that of the last"))
    return Facts(tuple(items))


def _run(history: Sequence[Mapping[str, float]], album: Album) -> Chapter:
    """Loss and accuracy after each epoch."""
    last = history[-1]
    split = "validation" if "validation_accuracy" in last else "test"
    figure = album.plot(
        "curves",
        themed.curves([dict(row) for row in history]),
        (WIDE, 2.4),
        alt=f"Loss and accuracy over {len(history)} epochs. The {split} accuracy ends at "
        f"{last[f'{split}_accuracy']:.1%}.",
        caption="Loss and accuracy after each epoch.",
    )
    return Chapter("The run", (Section("Loss and accuracy", (figure,)),))


def _activations(seen: Observations, album: Album) -> Chapter:
    """Dead ReLUs, and the norms of all outputs."""
    epochs, layers = seen.epochs, seen.layers
    blocks: list[Block] = []
    if layers.relus:
        dead = seen.table("dead_units")
        blocks = [
            Text(
                "A unit is one value of a layer's output: a channel at a position. It is dead if it is zero for every "
                "image of the batch; then no gradient passes it. A channel is dead if it is zero everywhere in every "
                "image; then its filter no longer learns. In the first layers, units at the edge of the image are "
                "often dead because all images look alike there."
            ),
            album.plot(
                "dead",
                plots.share_map(layers.relus, epochs, dead),
                (WIDE, _height(layers.relus)),
                alt=f"Share of dead units per layer and epoch; at the end {_percent(dead[-1].mean())} on average.",
                caption="Share of dead units: a row per ReLU, from the images to the classifier; a column per epoch.",
            ),
            _dead_table(seen),
        ]
    norms = album.plot(
        "activations",
        plots.lines_through_layers(epochs, _of_weighted(seen, "activation_norm"), "norm of the output"),
        (WIDE, HIGH),
        alt=f"Norm of the output of {len(layers.weights)} layers, for {len(epochs)} epochs.",
        caption="Euclidean norm of the output of each convolution and fully connected layer, for the batch.",
    )
    sections = [Section("Dead ReLUs", tuple(blocks))] if blocks else []
    return Chapter("Activations", (*sections, Section("Norms of activations", (norms,))))


def _dead_table(seen: Observations) -> Table:
    """Shares of dead units and channels before the first epoch and after the last."""
    first, last = seen.rows[0], seen.rows[-1]
    rows = [
        (
            name,
            *(_percent(row.values[what][place]) for what in ("dead_units", "dead_channels") for row in (first, last)),
        )
        for place, name in enumerate(seen.layers.relus[:ROWS])
    ]
    return Table(
        (
            "ReLU",
            f"units, epoch {first.epoch}",
            f"epoch {last.epoch}",
            f"channels, epoch {first.epoch}",
            f"epoch {last.epoch} ",
        ),
        tuple(rows),
        f"Shares of dead units and of dead channels.{_left_out(seen.layers.relus)}",
    )


def _gradients(network: Network, seen: Observations, album: Album) -> Chapter:
    """The norms of gradients, the update ratio, and the norms through depth."""
    epochs = seen.epochs
    norms = album.plot(
        "gradients",
        plots.lines_through_layers(epochs, _of_weighted(seen, "gradient_norm"), "norm of the gradient"),
        (WIDE, HIGH),
        alt=f"Norm of the gradient to the output of {len(seen.layers.weights)} layers, for {len(epochs)} epochs.",
        caption="Euclidean norm of the loss's gradient to the output of each convolution and fully connected layer.",
    )
    ratios = album.plot(
        "updates",
        plots.lines_through_layers(epochs, seen.table("update_ratio"), "‖Δw‖ / ‖w‖", USUAL),
        (WIDE, HIGH),
        alt=f"Ratio of update and weight of {len(seen.layers.weights)} layers, for {len(epochs)} epochs.",
        caption="Update ratio of filters and weights: the length of a step's update, with weight decay, clipping and "
        "momentum, over the length of the weights. It is measured at the learning rate of the epoch's last step. A "
        "usual value is 10⁻³ (dashed).",
    )
    return Chapter(
        "Gradients",
        (
            Section("Norms of gradients", (norms,)),
            Section("Update ratio", (ratios, _weight_table(seen))),
            _through_depth(network, seen, album),
        ),
    )


def _of_weighted(seen: Observations, name: str) -> np.ndarray:
    """A quantity of outputs, of layers with filters or weights alone: [epochs, layers]. The file has ReLUs, too."""
    weighted = {path.rsplit("/", 1)[0] for path in seen.layers.weights}
    return seen.table(name)[:, [output in weighted for output in seen.layers.outputs]]


def _weight_table(seen: Observations) -> Table:
    """The values of filters and weights after the last epoch."""
    values = seen.rows[-1].values
    columns = [values[name] for name in ("weight_norm", "weight_gradient_norm", "update_ratio")]
    return Table(
        ("filters or weights", "norm", "gradient norm", "update ratio"),
        tuple(
            (path, *(f"{float(column[place]):.3g}" for column in columns))
            for place, path in enumerate(seen.layers.weights[:ROWS])
        ),
        f"Filters and weights at epoch {seen.epochs[-1]}.{_left_out(seen.layers.weights)}",
    )


def _through_depth(network: Network, seen: Observations, album: Album) -> Section:
    """The gradient norms of weights from the first layer to the last; plain next to residual networks."""
    table = seen.table("weight_gradient_norm")
    paths, places = seen.layers.weights, sorted({0, len(seen.epochs) - 1})
    own = {f"epoch {seen.epochs[place]}": dict(zip(paths, table[place].tolist(), strict=True)) for place in places}
    panels: dict[str, Mapping[str, Mapping[str, float]]] = {network.name: own}
    text = (
        "The norm of the gradient to the filters or weights of each layer. If it shrinks by a factor per layer towards "
        "the images, the first layers learn slowly; if it grows, one learning rate cannot suit all layers."
    )
    if seen.counterpart:
        residual = "resnet" in network.name
        other = network.name.replace(*(("resnet", "plain") if residual else ("plain", "resnet")))
        panels[other] = {"epoch 0": seen.counterpart}
        text += "\n\n" + comparison({network.name: own["epoch 0"], other: panels[other]["epoch 0"]})
    figure = album.plot(
        "depth",
        plots.gradients_through_depth(panels),
        (WIDE, HIGH),
        alt=f"Norm of the gradient to the weights of each layer, of {' and '.join(panels)}.",
        caption="Norm of the gradient to each layer's filters or weights, from the images to the classifier.",
    )
    return Section("Gradient norms through depth", (Text(text), figure))


def comparison(norms: Mapping[str, Mapping[str, float]]) -> str:
    """Return what the gradients of new plain and residual networks show.

    Args:
        norms: Name of a network → path of filters or weights → gradient norm before training, in order.
    """
    factors = "; ".join(f"`{name}`: {first_over_last(values):.3g} times" for name, values in norms.items())
    return (
        "The lecture's reason for residual networks: from a certain depth on, more layers hurt, although identity "
        "mappings would make a deeper network as good as a shallower one. He et al. (2016, section 4.1) report that "
        "the gradients of their plain networks do not vanish, because of batch normalization. With new variables the "
        f"gradient norm of the first convolution is, relative to that of the last: {factors}."
    )


def _first_layer(network: Network, seen: Observations, album: Album) -> Chapter:
    """The filters of the first layer over time, as Zeiler & Fergus 2014, figure 4."""
    title = "Filters of the first layer over time"
    if "filters" not in seen.rows[0].values:
        text = Text("No convolution reads the three colors of the images, so its filters cannot be drawn.")
        return Chapter("First layer", (Section(title, (text,)),))
    places = plots.chosen_epochs(seen.epochs, EPOCHS)
    filters = np.stack([over_rgb(network.preprocessing, seen.rows[place].values["filters"]) for place in places])
    some = np.unique(np.linspace(0, filters.shape[1] - 1, FILTERS).astype(int))
    filters = filters[:, some]  # [epochs,filters,kh,kw,3]
    largest = np.abs(filters).max(axis=(0, 2, 3, 4), keepdims=True)
    pictures = 0.5 + 0.5 * filters / np.maximum(largest, 1e-30)
    factor = max(1, round(ENLARGED / max(filters.shape[2:4])))
    strips = []
    for place, row in zip(places, pictures, strict=True):
        epoch = seen.epochs[place]
        images = [np.repeat(np.repeat(one, factor, axis=0), factor, axis=1) for one in row]
        tile = album.strip(f"filters-{epoch}", images, alt=f"{len(images)} filters of the first layer at epoch {epoch}")
        strips.append(Strip(f"epoch {epoch}", "before training" if epoch == 0 else "", tile))
    caption = (
        f"{len(some)} of the {seen.rows[0].values['filters'].shape[-1]} filters of `{seen.layers.first}`, with the "
        "preprocessing of the images multiplied in. Gray is zero. Each filter has one scale for all epochs, so a "
        "filter that grows gains contrast. Zeiler & Fergus (2014, figure 4) show projections of strong activations "
        "over the epochs; in the first layer these are the filters, up to a factor."
    )
    return Chapter("First layer", (Section(title, (Strips(tuple(strips), caption),)),))


def _height(names: Sequence[str]) -> float:
    """Inches of a map with a row per name."""
    return 1.4 + 0.16 * min(len(names), 2 * plots.NAMES)


def _percent(share: float) -> str:
    return f"{share:.1%}" if np.isfinite(share) else "–"


def _left_out(names: Sequence[str]) -> str:
    """A sentence about rows that a table leaves out."""
    return f" The first {ROWS} of {len(names)}; microscope.npz has all." if len(names) > ROWS else ""
