"""Measurements: build time, growth, memory and scaling."""
