"""The family of rules: how an agent learns from the episodes that it played."""
