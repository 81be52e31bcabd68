"""`rawcnn tour`: the whole lecture as one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from rawcnn.cli.options import Head, Json, Seed, SkipUnreadable, Weights
from rawcnn.cli.request import Request, Run, begin, load_data, load_network, note_origin


@dataclass(frozen=True, kw_only=True)
class TourRequest(Request):
    """The options of `rawcnn tour`."""

    folder: Path
    epochs: int
    race: bool
    full: bool
    weights: Path | None
    model: str
    data: str | None
    skip_unreadable: bool
    head: str = "load"

    @property
    def checked_file(self) -> Path:
        return self.folder / "index.html"

    def check(self) -> None:
        if (self.weights is None) != (self.data is None):
            raise ValueError("--weights and --data go together: give the network and the images it was trained for")

    def settings(self, network: Any = None) -> dict[str, Any]:
        return {
            "output": self.folder,
            "epochs": self.epochs,
            "race": self.race,
            "full": self.full,
            "weights": self.weights,
            "data": self.data,
            "seed": self.seed,
        }


def tour(
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("tour"),
    epochs: Annotated[int | None, typer.Option(help="Number of training epochs on the digits.", min=1)] = None,
    race: Annotated[bool, typer.Option(help="Also race a network against Keras.")] = True,
    full: Annotated[
        bool, typer.Option(help="Optimize images for VGG-16 at 128 pixels with 512 steps instead of 64 and 64.")
    ] = False,
    weights: Weights = None,
    head: Head = "load",
    model: Annotated[str, typer.Option(help="Model that --weights belongs to.")] = "cifar_resnet20",
    data: Annotated[
        str | None, typer.Option(help="Images of the classes that --weights knows, as folder:PATH.")
    ] = None,
    skip_unreadable: SkipUnreadable = False,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Write one page about the whole lecture.

    The page shows a photograph inside a network, architectures, training, feature visualization and adversarial
    examples. With the extra `vgg`, the network of the photographs is a real VGG-16. With --weights and --data, the page
    also shows a network of your own.
    """
    from rawcnn.report.tour import EPOCHS

    request = TourRequest(
        folder=output, epochs=epochs or EPOCHS, race=race, full=full, weights=weights, model=model, data=data,
        skip_unreadable=skip_unreadable, as_json=as_json, seed=seed, head=head,
    )  # fmt: skip
    write_tour(request)


def write_tour(request: TourRequest) -> None:
    """Write the page into its folder."""
    from rawcnn.report.progress import bars
    from rawcnn.report.tour import run as run_tour

    with begin(request) as run:
        user = _load_user_network(request, run)
        with bars() as report:
            run.result = run_tour(
                request.folder, seed=request.seed, progress=report, epochs=request.epochs, race=request.race,
                user=user, full=request.full,
            )  # fmt: skip
        run.screen.print(f"wrote {request.folder / 'index.html'}: open it in a browser")


def _load_user_network(request: TourRequest, run: Run):
    """Load the user's own network and images; None without."""
    from rawcnn.report.tour import UserNetwork

    if not request.weights or not request.data:
        return None
    network = load_network(request.model, request.weights, seed=request.seed, head=request.head)
    note_origin(run.screen, [request.weights])
    network.check_classifier()
    images = load_data(run.screen, request.data, network.image_size, request.skip_unreadable)
    if len(images.labels) != network.classes:
        raise ValueError(
            f"{request.data} has {len(images.labels)} classes; expected the {network.classes} of {request.weights}"
        )
    return UserNetwork(network, images, request.weights.name)
