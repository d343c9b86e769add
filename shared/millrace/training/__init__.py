"""The second stage: candidates are planned, fitted and exported to ONNX."""
