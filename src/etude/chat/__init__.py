"""Talking with a model: dialogues, prompts, sessions that keep what was read, and an endpoint for programs."""
