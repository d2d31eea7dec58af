"""Prompts: what a model reads before a conversation, versioned."""
