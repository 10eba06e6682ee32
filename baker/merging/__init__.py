"""Merges: versions combined in weights or by training, with the proof of what is left of each."""
