"""Test tools: pure replicas, strategies, laws, backend suite and simulator.

Nothing here is imported by production code. Needs the extra `crdtdb[testing]`.
"""
