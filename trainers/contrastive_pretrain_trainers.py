"""Contrastive pretraining of the encoder, then of the decoder (Chaitanya et al. 2020, arXiv 2006.10511)."""

from nnunet_diffusion_ensemble.training.contrastive.pretrain_trainers import (
    GlobalContrastivePretrainTrainer,
    GlobalLocalContrastivePretrainTrainer,
)

__all__ = ["GlobalContrastivePretrainTrainer", "GlobalLocalContrastivePretrainTrainer"]
