"""What all verbs begin and end with: options are checked, network and data are loaded, the result is printed.

A verb collects its options into a Request and calls one function. That function works within `begin(request)`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from rawcnn.cli.console import Screen
from rawcnn.cli.parsing import ImageSize, check_share, check_writable, parse_model_settings


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options of every verb.

    Attributes:
        as_json: Whether the result is printed as JSON.
        output: The file or folder to write, if any.
        seed: The seed of all random numbers.
    """

    as_json: bool
    output: Path | None = None
    seed: int = 0

    endings: ClassVar[tuple[str, ...]] = ()  # the allowed endings of `output`; empty: all

    @property
    def checked_file(self) -> Path | None:
        """The file that must be writable before any work starts."""
        return self.output

    def check(self) -> None:
        """Raise ValueError for options that do not fit, before anything is loaded."""

    def settings(self, network: Any = None) -> dict[str, Any]:
        """Return the resolved settings that are printed and that a record keeps."""
        return {}

    def unrecorded_settings(self) -> dict[str, Any]:
        """Return more settings, which are printed on a line of their own but not recorded."""
        return {}


@dataclass(frozen=True, kw_only=True)
class NetworkRequest(Request):
    """The options of a verb that builds a network.

    Attributes:
        model: The model's name.
        weights: A weights file; None: random weights.
        classes: The number of classes; None: the weights file's or the model's own.
        size: The image side in pixels, or (height, width); None: the weights file's or the model's own.
        option: The model's settings as NAME=VALUE.
        precision: "float32", "bfloat16" or "float64".
        head: "load", or "skip" for all weights but the classifier's.
        needs_classifier: Whether the verb needs logits, which a network without a classifier does not have.
    """

    needs_classifier: ClassVar[bool] = False

    model: str
    weights: Path | None = None
    classes: int | None = None
    size: ImageSize | None = None
    option: Sequence[str] | None = None
    precision: str = "float32"
    head: str = "load"

    def check(self) -> None:
        from rawcnn.models import find_model

        find_model(self.model)

    @property
    def weight_files(self) -> Sequence[Path | None]:
        """The weights of each network; an ensemble has several."""
        return [self.weights]

    def load_networks(self) -> list:
        """Build the networks."""
        return [self.load_network(file) for file in self.weight_files]

    def load_network(self, weights: Path | None):
        """Build the network with the weights of one file."""
        return load_network(
            self.model, weights, classes=self.classes, size=self.size, seed=self.seed, precision=self.precision,
            option=self.option, head=self.head, check=self._check,
        )  # fmt: skip

    def _check(self, network: Any) -> None:
        if self.needs_classifier:
            network.check_classifier()
        self.check_network(network)

    def check_network(self, network: Any) -> None:
        """Raise ValueError for options that do not fit the network's operations. It has no variables yet."""


@dataclass(frozen=True, kw_only=True)
class ImagesRequest(NetworkRequest):
    """The options of a verb that runs a network on image files.

    Attributes:
        images: The files.
    """

    images: Sequence[Path]


@dataclass(frozen=True, kw_only=True)
class DataRequest(NetworkRequest):
    """The options of a verb that runs a network on a data set.

    Attributes:
        data: The data set's name.
        split: "train", "test", "validation" or "all".
        skip_unreadable: Whether image files that cannot be read are skipped.
        validation: The share of the training images that becomes the validation split; None: none.
    """

    data: str
    split: str = "test"
    skip_unreadable: bool = False
    validation: float | None = None

    def check(self) -> None:
        super().check()
        check_share("--validation", self.validation)


@dataclass
class Run:
    """What a verb works with.

    Attributes:
        screen: Where it prints.
        settings: Its resolved settings.
        networks: The networks of a NetworkRequest.
        images: The images of an ImagesRequest, float32 [B,H,W,3] in [0,1].
        data: The data set of a DataRequest.
        result: What `--json` prints at the end; None prints nothing.
    """

    screen: Screen
    settings: Mapping[str, Any] = field(default_factory=dict)
    networks: Sequence[Any] = ()
    images: Any = None
    data: Any = None
    result: object = None

    @property
    def network(self) -> Any:
        """The first network."""
        return self.networks[0]


@contextmanager
def begin(request: Request) -> Iterator[Run]:
    """Do what all verbs begin and end with.

    At the beginning: check the options and the output file, build the networks, which refuse options that do not fit
    before they have variables, read the image files, print the settings, load the data. At the end, unless the block
    raised an error: print `run.result` as JSON, with `--json` only. After an error, folders that were created for the
    output are removed, if they are empty.

    Args:
        request: The options of the verb.

    Yields:
        The screen, the settings, the networks, the images and the data.

    Raises:
        ValueError: An option does not fit.
    """
    run = Run(Screen(request.as_json))
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata; what makes a file unreadable is an error
    request.check()
    created = check_writable(request.checked_file, *request.endings)
    try:
        _prepare(run, request)
        yield run
    except BaseException:
        for folder in created:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
        raise
    if run.result is not None:
        run.screen.print_json(run.result)


def _prepare(run: Run, request: Request) -> None:
    """Build the networks, read the images, print the settings, load the data."""
    if isinstance(request, NetworkRequest):
        run.networks = request.load_networks()
    if isinstance(request, ImagesRequest) and request.images:
        run.images = load_images(request.images, run.network.image_size)
    if isinstance(request, NetworkRequest):
        note_origin(run.screen, request.weight_files)
        if request.head == "skip":
            run.screen.note("the classifier keeps its random values (--head skip)")
    run.settings = request.settings(run.networks[0] if run.networks else None)
    run.screen.print_settings(run.settings)
    run.screen.print_settings(request.unrecorded_settings())
    if isinstance(request, DataRequest):
        run.data = load_data(
            run.screen, request.data, run.network.image_size, request.skip_unreadable, whole=request.split == "all",
            validation=request.validation,
        )  # fmt: skip
        run.data.count(request.split)  # raises ValueError if it has no such split


def load_network(
    model: str, weights: Path | None, *, classes: int | None = None, size: ImageSize | None = None, seed: int = 0,
    precision: str = "float32", option: Sequence[str] | None = None, head: str = "load",
    check: Callable[[Any], object] | None = None,
):  # fmt: skip
    """Build a network with the weights of a file.

    A file that rawcnn wrote holds the network's classes, size and settings. For a published file, the names of its
    tensors determine the settings.

    Args:
        model: The model's name.
        weights: The file; None: random weights.
        classes: The number of classes; None: the file's or the model's own.
        size: The image side in pixels, or (height, width); None: the file's or the model's own.
        seed: The seed of random weights.
        precision: "float32", "bfloat16" or "float64".
        option: More settings as NAME=VALUE; they override those of the file.
        head: "load", or "skip" for all weights but the classifier's.
        check: Raises ValueError if the network's operations do not fit, before it has variables.

    Returns:
        The Network.

    Raises:
        ValueError: The file holds the weights of another model, or does not fit.
    """
    import rawcnn

    settings = parse_model_settings(option)
    settings |= {name: value for name, value in (("classes", classes), ("size", size)) if value is not None}
    return rawcnn.create(model, seed=seed, precision=precision, weights=weights, head=head, check=check, **settings)


def note_origin(screen: Screen, weight_files: Sequence[Path | None]) -> None:
    """Print where weights that have a name come from, and their license."""
    from rawcnn.weights.packaged import origin_of

    for origin in dict.fromkeys(map(origin_of, weight_files)):
        if origin:
            screen.note(origin)


def named_classes(network: Any, file: Path | None):
    """Return the network with the class names of a file, if there is one. ValueError unless it names each class."""
    from rawcnn.evaluation.class_names import read_labels

    if file is not None:
        network.labels = read_labels(file)
    network.check_labels()
    return network


def load_data(
    screen: Screen, name: str, size: ImageSize | None, skip_unreadable: bool, memory: int | None = None, *,
    validation: float | None = None, whole: bool = False,
):  # fmt: skip
    """Load a data set with a progress bar, and print its notes and how many unreadable files were skipped.

    Args:
        screen: Where the bar is shown.
        name: The data set's name.
        size: The image side in pixels, or (height, width); None: as the data set has it.
        skip_unreadable: Whether image files that cannot be read are skipped.
        memory: Bytes that decoded images may take; larger data sets are streamed.
        validation: The share of the training images that becomes the validation split; None: none.
        whole: Whether all splits are joined to one, "all".

    Returns:
        The DataSet.
    """
    from rawcnn.data import load

    with screen.progress_bar(f"reading {name}") as report, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* has pictures in formats that are not read", UserWarning)  # a note says it
        data = load(
            name, size, validation=validation, whole=whole, skip_unreadable=skip_unreadable, memory=memory,
            progress=report,
        )  # fmt: skip
    for note in data.notes:
        screen.note(note)
    note_skipped(screen, data.skipped)
    return data


def layer_or_logits(layer: str | None, network: Any) -> str:
    """Return the layer that --layer names; without the option, the layer of the logits.

    Raises:
        ValueError: There is no option, and the network has no logits.
    """
    if layer is None and network.last is not None:
        raise ValueError(
            f"this {network.name} ends with {network.last}, so it has no logits; name a layer with --layer, such as "
            f"{network.last}"
        )
    return layer or network.head


def match_data(run: Run, force: bool) -> None:
    """Put the classes of the data into the order of the networks' class names, and print that if it changes.

    Raises:
        ValueError: The numbers of classes differ; or, unless `force`, their names do.
    """
    from rawcnn.evaluation.class_names import match_classes

    for network in run.networks:
        matched = match_classes(network, run.data, force=force)
        if matched is not run.data:
            run.screen.note("the classes of the data are in another order than the network's: matched by name")
        run.data = matched


def note_skipped(screen: Screen, skipped: Sequence[object]) -> None:
    """Print how many unreadable files were skipped, if any."""
    if skipped:
        screen.note(f"skipped {len(skipped)} unreadable files; the first is {skipped[0]}")


def load_images(files: Sequence[Path], size: tuple[int, int]):
    """Read image files as float32 [B,H,W,3] in [0,1], each scaled to cover `size` (H, W) and cropped."""
    import numpy as np

    from rawcnn.evaluation.predict import read_image

    return np.stack([read_image(file, size) for file in files]).astype(np.float32) / np.float32(255)


def epoch_line(name: str, summary: Mapping[str, float]) -> str:
    """Format the summary of a training epoch as one line."""
    split = "validation" if "validation_accuracy" in summary else "test"
    return (
        f"{name} epoch {summary['epoch']:>3}  loss {summary['train_loss']:.4f}  "
        f"train {summary['train_accuracy']:.2%}  {split} {summary[f'{split}_accuracy']:.2%}  "
        f"rate {summary['rate']:.4g}  {summary['images_per_second']:.0f} images/s"
    )
