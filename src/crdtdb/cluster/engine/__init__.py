"""The engine of a node, without I/O: events in, actions out. The simulator runs it too."""
