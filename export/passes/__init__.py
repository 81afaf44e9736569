"""Exact rewrites of an ONNX graph, one per file.

Each module has ``run(model: onnx_ir.Model) -> bool``: it changes the model in place and says whether it changed
anything. The pictures show values flowing to the right; W is a constant weight. `export.graphs.rewrite` runs them,
checks each and removes what is left without use.
"""
