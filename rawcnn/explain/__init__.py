"""Explain what a network computes, forward and backward, from the code that runs; exercises."""

from rawcnn.explain.explanation import Explanation, explain
from rawcnn.nn.backpropagation import Backward, backpropagate

__all__ = ["Backward", "Explanation", "backpropagate", "explain"]
