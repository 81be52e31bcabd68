"""Races: networks, kernels, attacks and visualizations against other implementations."""
