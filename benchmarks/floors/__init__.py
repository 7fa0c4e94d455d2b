"""What this machine can do at best, measured with as little of our own in the way as can be."""
