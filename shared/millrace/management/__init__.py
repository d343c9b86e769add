"""The management API: its routes, each of which calls one use case."""
