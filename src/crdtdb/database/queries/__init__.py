"""Queries, indexes, views, and bulk changes of what a query finds."""
