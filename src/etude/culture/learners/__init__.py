"""What learns: one file for each algorithm, on one page, and what they share.

A2C's file and PPO's have the same beginning on purpose: the step from one to the other is what a person reads them
for, each from its top to its end. What every learner needs, whatever it learns by, is in `learner`.
"""
