"""Views of the console: each reads at most three documents of the API and returns a page."""
