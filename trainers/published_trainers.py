"""The methods compared in TEDM's paper (arXiv 2311.07421)."""

from nnunet_diffusion_ensemble.training import published
from nnunet_diffusion_ensemble.training.published import *  # noqa: F403 - as many trainers as the paper has methods

__all__ = published.__all__
