"""The management API: which requests there are, and what each one asks of the stages."""
