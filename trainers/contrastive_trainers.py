"""Fine-tuning after contrastive pretraining (Chaitanya et al. 2020, arXiv 2006.10511)."""

from nnunet_diffusion_ensemble.training.contrastive.fine_tuning import (
    GlobalContrastiveTrainer,
    GlobalLocalContrastiveTrainer,
)

__all__ = ["GlobalContrastiveTrainer", "GlobalLocalContrastiveTrainer"]
