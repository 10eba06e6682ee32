"""The HTTP face: OpenAI's API over vLLM with hot-swapped adapters, and the Bread API over the baker."""

__version__ = "0.1.0"
