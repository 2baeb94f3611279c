"""A model as an ONNX file: the operations of its forward, traced and written for other runtimes."""
