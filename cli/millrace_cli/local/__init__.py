"""Local stack: MiniStack on this machine, deployed to with the SAM CLI."""
