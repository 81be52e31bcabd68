"""Evaluation: accuracy, multi-crop protocols, predictions and class names."""
