"""Activation ranges, Q/DQ insertion, sensitivity and the accuracy gate of INT8 models."""
