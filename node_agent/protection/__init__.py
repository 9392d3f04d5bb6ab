"""What keeps commands away from what is not theirs."""
