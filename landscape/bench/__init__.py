"""Benchmarks: ratios of times measured in one interleaved run, and peak memory."""
