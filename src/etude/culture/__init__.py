"""Culture: worlds, experts and agents that learn by watching them, and the reinforcement learning beneath.

Arrays are batched over worlds. Axes have one-letter names, in NumPy's arrays and in tensors: B world, T step, P player
(0 is the learner, 1 its expert), C cell of the grid (row by row), G goal by colour, A action, W number of a view,
D width of an agent.
"""
