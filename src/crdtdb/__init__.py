"""A replicated document database."""
