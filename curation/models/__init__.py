"""Models: arrays in, arrays out. Nothing here knows samples, stages or Ray."""
