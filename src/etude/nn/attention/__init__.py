"""The family of attentions: who may look at whom, and with which weights. Importing it imports no PyTorch."""
