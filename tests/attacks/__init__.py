"""Attacks on a node, one test a kind: floods, slow peers, oversized and hostile requests, passwords, scripts.

Each runs against real processes on loopback, and looks at three things: the attacked node's memory, how long others wait
for its answers, and whether the other members of its cluster still hear its heartbeat.
"""
