"""Joins finished benchmarks: of other models on the same cases, or of the same models at other hospitals."""
