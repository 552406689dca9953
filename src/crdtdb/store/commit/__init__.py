"""Commits: transactions, the catalogue and clock they change, and group commit."""
