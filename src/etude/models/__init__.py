"""The assembled architectures. A spec is plain data and imports no PyTorch; `spec.build(...)` makes the live model."""
