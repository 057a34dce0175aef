"""Augmentation for another hospital: what nnU-Net's own leaves out, from batchgeneratorsv2's classes."""
