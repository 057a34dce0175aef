"""The Python API, of which the command line is one user: denoisers and trained models on arrays."""
