"""One ONNX model: its file, its graph in memory, its shapes, and sessions that run it."""
