"""The student of `nnunet-diffusion distil` while it is trained; afterwards it is nnU-Net's own."""

from nnunet_diffusion_ensemble.distillation.trainer import DistillationTrainer

__all__ = ["DistillationTrainer"]
