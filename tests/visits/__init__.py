"""Published clients against a real service, each in an environment of its own; `make visits` runs them."""
