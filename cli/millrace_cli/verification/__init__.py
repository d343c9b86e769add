"""Verification of a deployed stack: the checks of its first day."""
