"""Pretraining of the denoiser, without labels."""

from nnunet_diffusion_ensemble.training.denoising import DiffusionPretrainTrainer

__all__ = ["DiffusionPretrainTrainer"]
