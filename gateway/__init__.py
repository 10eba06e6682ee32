"""The HTTP side: OpenAI's and Anthropic's APIs on vLLM with hot-swapped adapters, and the Bread API for baking."""

__version__ = "0.1.0"
