"""Benchmarks: each one command, on loopback, bounded, with its comparison in the same run."""
