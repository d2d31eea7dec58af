"""Evaluation: losses with intervals, baselines, and behaviours that many instruments need."""
