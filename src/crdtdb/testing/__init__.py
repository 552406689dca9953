"""For those who must trust it: replicas of the pure core, strategies, laws, the backend suite and the simulator.

Nothing here is imported by production code. Needs the extra `crdtdb[testing]`.
"""
