"""Picture files to batches: decoding, the store of decoded pixels, augmentation on the device."""
