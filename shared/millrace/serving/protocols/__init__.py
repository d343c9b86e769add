"""Request and reply formats of the protocols that ``predict`` serves."""
