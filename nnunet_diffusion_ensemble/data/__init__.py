"""Images on their way to training: converted, surveyed, read, preprocessed."""
