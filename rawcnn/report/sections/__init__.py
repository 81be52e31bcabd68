"""Sections of reports: each a function that takes results, and an Album for pictures, and returns a Section."""
