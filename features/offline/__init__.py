"""Feature values for training and batch scores: the views computed as of any moment, here or in a warehouse."""
