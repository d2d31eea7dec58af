"""The algorithms of reinforcement learning. See README.md."""
