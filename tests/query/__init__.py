"""Selectors and the order of values."""
