"""The family of formats: how the ecosystem's models are written down, each a table that is read in both directions."""
