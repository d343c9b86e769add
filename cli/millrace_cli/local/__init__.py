"""The local stack: MiniStack on this machine, deployed to by the real SAM CLI."""
