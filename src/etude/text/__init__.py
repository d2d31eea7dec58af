"""Text: corpora, tokenizers, the token store on disk, and batches. No PyTorch on this floor; README.md is the map."""
