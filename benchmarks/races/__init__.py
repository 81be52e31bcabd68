"""Races of networks, kernels, attacks and visualizations against other implementations."""
