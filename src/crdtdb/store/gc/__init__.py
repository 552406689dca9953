"""Garbage collection: tombstones, expired history, and rows of dropped collections."""
