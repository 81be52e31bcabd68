"""The costs of a network: counted without running it (costs), and measured on this machine (roofline)."""
