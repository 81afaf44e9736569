"""Measurements: accuracy, and latency beside the programs that people would use instead."""
