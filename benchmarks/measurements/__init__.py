"""Measurements of rawcnn alone: build time, growth, memory, scaling."""
