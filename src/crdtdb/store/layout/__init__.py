"""Keys and rows: how the store lays out its bytes."""
