"""The family of experts: how the other player moves."""
