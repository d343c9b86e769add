"""Traffic with a known change in it, so that anyone can watch the loop close."""
