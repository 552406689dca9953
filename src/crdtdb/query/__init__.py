"""Finding documents: selectors of Mango, the order of values, definitions of indexes, and how a query uses one. Pure."""
