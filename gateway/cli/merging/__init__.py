"""The verbs that make versions of other versions."""
