"""Commands by subject: each parses its options, calls the API and prints the response."""
