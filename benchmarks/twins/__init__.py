"""The same network in Keras and in PyTorch."""
