"""Majority locks without I/O: votes and leases."""
