"""rawcnn: the convolutional network with the lid off."""

from rawcnn.models import MODELS, create
from rawcnn.network import Forward, Network

__version__ = "0.1.0"
__all__ = ["MODELS", "Forward", "Network", "create"]
