"""The demonstration: two tables, from upload to served predictions that are compared with the truth."""
