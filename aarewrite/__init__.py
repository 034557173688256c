"""aarewrite: make deployed ONNX models shift-invariant, with proof."""

__version__ = "0.1.0"
