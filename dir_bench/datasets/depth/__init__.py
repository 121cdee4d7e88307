"""Pictures with a depth map each: splits, the transforms of a batch, stand-ins, metrics."""
