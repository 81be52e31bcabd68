"""Costs of a network: counted (costs) and measured (roofline)."""
