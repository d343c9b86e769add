"""Demonstration: two example tables, and a run of the whole loop on them."""
