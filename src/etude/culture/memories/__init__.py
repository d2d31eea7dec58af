"""The family of memories: what an agent keeps of what it saw."""
