"""The third stage: candidates are measured on an untouched holdout, and the gate decides."""
