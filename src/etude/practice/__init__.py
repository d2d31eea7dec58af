"""Challenges: rebuild every part of a transformer, and what surrounds it, and know where you stand."""
