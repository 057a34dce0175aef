"""Postprocessing of segmentations that is learned from labels, in nnU-Net's form."""
