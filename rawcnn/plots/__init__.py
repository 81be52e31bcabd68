"""Plots: figures of the command line and the report's themed plots."""
