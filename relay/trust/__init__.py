"""Trust: what is believed of whom, how credentials stand by it, and who uses them now."""
