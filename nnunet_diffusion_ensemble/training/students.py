"""Trainers of self-training: the trainers that they are named after, on true and pseudo-labels."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.training.plain_unet import PlainUNetTrainer
from nnunet_diffusion_ensemble.training.self_training import SelfTraining
from nnunet_diffusion_ensemble.training.timesteps import TimestepTrainer


class DiffusionEnsembleSelfTrainer(SelfTraining, TimestepTrainer):
    """`DiffusionEnsembleTrainer`, started from the teacher's head and denoiser."""


class ScratchSelfTrainer(SelfTraining, PlainUNetTrainer):
    """`ScratchTrainer`, started from the teacher if that is the same U-Net."""


class nnUNetTrainerSelfTraining(SelfTraining, nnUNetTrainer):  # named as nnU-Net names variants
    """Stock nnU-Net, started from the teacher if that is the same U-Net."""
