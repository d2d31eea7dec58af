"""Training: the one resumable loop, and what is trained by it: objectives, optimisers, schedules, checkpoints."""
