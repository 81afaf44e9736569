"""Latencies as pytest-benchmark suites: ``pytest benchmarks/suites``."""
