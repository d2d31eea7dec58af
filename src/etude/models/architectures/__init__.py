"""The family of architectures, as plain data. Importing it imports no PyTorch."""
