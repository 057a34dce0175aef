"""The demo: a chain from images to scores on a sample that ships with the package."""
