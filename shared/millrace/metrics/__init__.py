"""Model metrics: catalogue, computation on weighted rows, bootstrap intervals."""
