"""Monitoring: has what is asked of a model, what it answers, or how well, changed - and does anybody need to know."""
