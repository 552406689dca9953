"""Replication side of a store: what it sends, and what it merges."""
