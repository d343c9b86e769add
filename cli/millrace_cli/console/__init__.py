"""The console: pages about a stack, served on this machine to its user's browser."""
