"""The slow road: checkpoint to ONNX and its spec."""
