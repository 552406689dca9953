"""Feeds of changes: of one collection, and of all by pattern."""
