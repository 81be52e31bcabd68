"""The section on depth: the gradient norms of plain and residual networks."""

from __future__ import annotations

from collections.abc import Mapping

from rawcnn.plots import microscope as plots
from rawcnn.report.album import Album
from rawcnn.report.page import Section, Table, Text
from rawcnn.training.depth_gradients import Norms, first_over_last

PANELS = {"plain": "plain networks", "resnet": "residual networks"}  # in the names of the networks


def section(norms: Mapping[str, Norms], album: Album) -> Section:
    """Return the section with the norms against the layer, and the growth from the last convolution to the first.

    Args:
        norms: Network → path of filters or weights → gradient norm, from `rawcnn.training.depth_gradients`.
        album: The page's pictures.
    """
    growth = {name: first_over_last(values) for name, values in norms.items()}
    panels = {
        title: {name.removeprefix("cifar_"): values for name, values in norms.items() if kind in name}
        for kind, title in PANELS.items()
    }
    rows = tuple((name, f"{factor:.3g}") for name, factor in growth.items())
    most, least = max(growth, key=lambda name: growth[name]), min(growth, key=lambda name: growth[name])
    return Section(
        "Depth: plain and residual networks",
        (
            Text(
                "From a certain depth on, more layers hurt a plain network (He et al. 2016). The same networks with "
                "shortcuts differ in one thing: each block adds its input. Before any training, one batch of digits "
                "shows what that changes. The gradient of the loss is computed for the weights of each layer. In "
                f"`{most}` the norm is {growth[most]:.3g} times as large in the first convolution as in the last, in "
                f"`{least}` {growth[least]:.3g} times.\n\n"
                "`rawcnn paper resnet --train` trains the four networks and compares their errors; docs/depth.md has a "
                "run on CIFAR-10."
            ),
            album.plot(
                "depth-gradients",
                plots.gradients_through_depth(panels),
                (5.3, 2.6),
                alt="Gradient norm against the layer for plain networks (left) and residual networks (right); the "
                "norm of the first convolution divided by that of the last is "
                + ", ".join(f"{factor:.3g} for {name}" for name, factor in growth.items()),
                caption="Norm of the gradient to the weights of each layer, before training, for one batch of digits.",
            ),
            Table(("network", "first / last"), rows, "Gradient norm of the first convolution divided by the last's."),
        ),
    )
