"""Trainers: of the denoiser, of the segmentation network, and what they share."""
