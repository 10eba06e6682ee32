"""Prompt baking: prompts, stimuli, trajectories and the adapters trained from them. Uses neither HTTP nor vLLM."""
