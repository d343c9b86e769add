"""The management API: its routes, each of which calls one use case."""

__all__ = ["calls", "change_routes", "read_routes"]
