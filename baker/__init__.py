"""Prompt baking: prompts, stimuli, trajectories and the adapters trained from them. Knows no HTTP and no vLLM."""
