"""The family of embedders: what turns a chunk of text into the key by which it is found."""
