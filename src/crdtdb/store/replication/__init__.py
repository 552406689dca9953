"""What a store sends to others and does with what it receives."""
