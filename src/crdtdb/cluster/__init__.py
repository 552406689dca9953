"""A node among others: performs what gossip decides, on a store and over connections."""
