"""The verb that shows all of it in one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rawcnn.cli.console import Screen
from rawcnn.cli.options import Json, Seed, Weights, load_data, network_for


def tour(
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("tour"),
    epochs: Annotated[int | None, typer.Option(help="Of the digits' training.", min=1)] = None,
    race: Annotated[bool, typer.Option(help="Race a network against Keras.")] = True,
    weights: Weights = None,
    model: Annotated[str, typer.Option(help="The network that the given weights are for.")] = "cifar_resnet20",
    data: Annotated[str | None, typer.Option(help="Images that the given weights know, as folder:PATH.")] = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """The lecture in a few minutes, as one page: architectures, feature visualization, adversarial examples."""
    from rawcnn.report.progress import bars
    from rawcnn.report.tour import EPOCHS, Given, run

    screen = Screen(as_json)
    screen.settings(output=output, epochs=epochs or EPOCHS, race=race, weights=weights, data=data, seed=seed)
    if (weights is None) != (data is None):
        raise ValueError("--weights and --data go together: a network, and the images to look into it with")
    given = None
    if weights and data:
        network = network_for(model, weights, seed=seed)
        images = load_data(screen, data, network.input_size, False)
        if len(images.labels) != network.classes:
            raise ValueError(f"{data} has {len(images.labels)} classes; expected the {network.classes} of {weights}")
        given = Given(network, images, weights.name)
    with bars() as report:
        results = run(output, seed=seed, progress=report, epochs=epochs or EPOCHS, race=race, given=given)
    screen.say(f"wrote {output / 'index.html'}: open it in a browser")
    screen.emit(results)
