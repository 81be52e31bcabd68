"""The benchmark harness: interleaved timing, checks of equality, result files."""
