"""The family of views: what a player sees of its world."""
