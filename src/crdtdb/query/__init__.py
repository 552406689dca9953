"""Finding documents: the selectors of Mango, and the order of values in which they compare."""
