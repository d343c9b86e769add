"""The commands, one module a group: read options, call, show."""
