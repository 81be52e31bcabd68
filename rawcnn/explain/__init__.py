"""Explanations: the arithmetic of single values, and exercises."""
