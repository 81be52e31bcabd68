"""The network: its trace, its layers, and what runs it."""
