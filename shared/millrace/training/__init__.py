"""The second stage: plan, fit and export candidates."""
