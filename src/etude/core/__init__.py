"""The ground floor: recipes, runs, the lab that makes runs of recipes, families, sites and errors.

Nothing here imports PyTorch, and nothing here imports another floor of Etude.
"""
