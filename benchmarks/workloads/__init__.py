"""What is done at the targets, and what is measured of crdtdb alone."""
