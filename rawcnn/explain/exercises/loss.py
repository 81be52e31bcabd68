"""Exercise 8: the cross-entropy of softmax, and its gradient."""

from __future__ import annotations

import numpy as np

from kernels.loss import cross_entropy_reference
from rawcnn.explain.exercises.exercise import Exercise, central_differences, integers, normal


def cross_entropy(logits, labels):
    """Compute the cross-entropy of softmax of each image, and the gradient of its mean over the batch.

    Args:
        logits: z [B,K].
        labels: [B], ints from 0 to K − 1.

    Returns:
        Two arrays: the losses [B], and ∂(mean loss)/∂z [B,K].
    """
    shifted = logits - logits.max(1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    gradient = np.exp(log_softmax)
    gradient[rows, labels] -= 1
    return -log_softmax[rows, labels], gradient / len(labels)


def _expected(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    losses = cross_entropy_reference(logits, labels)
    return losses, central_differences(lambda z: float(np.mean(cross_entropy_reference(z, labels))), logits)


CROSS_ENTROPY = Exercise(
    title="cross-entropy and its gradient",
    task="""
    softmax(z)_k = exp(z_k) / Σ_j exp(z_j)          L = −log softmax(z)_label

exp overflows from 710 on. Subtract the largest logit first: it cancels. The gradient is short: write log softmax as a
difference, and differentiate it. A network is trained on the mean over the batch.
""",
    solution=cross_entropy,
    expected=_expected,
    cases={
        "equal logits": dict(logits=np.zeros((1, 4)), labels=np.array([2])),
        "three images": dict(logits=integers(3, 5), labels=np.array([0, 4, 2])),
        "logits around 1,000": dict(logits=1000 + normal(2, 3), labels=np.array([1, 0])),
    },
    hints=(
        "log softmax(z) = (z − max z) − log Σ exp(z − max z).",
        "∂L/∂z = softmax(z) − onehot(label).",
        "The mean over B images divides the gradient by B.",
    ),
    source="kernels/loss.py",
    look=lambda index, logits, labels: {"logits of this image": logits[index[0]], "its label": labels[index[0]]},
    tolerance=1e-6,  # the right gradient is one of central differences
)
