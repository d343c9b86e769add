"""The wire dialects: each reads a request into a table and writes scores as its clients expect them."""
