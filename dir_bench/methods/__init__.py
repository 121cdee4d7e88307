"""What acts between a sample and the update: FDS, losses, resampling, mixing, regularisers, stages."""
