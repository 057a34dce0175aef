"""Timestep ensembling diffusion models (TEDM, Rosnati et al. 2023, arXiv 2311.07421) as an nnU-Net plugin."""

__version__ = "0.1.0"
