"""The demo: a real cluster on this machine, cables that can be cut, and a story that ends in proof.

Nodes are processes of the command `crdtdb node`, reached as any client reaches them.
"""
