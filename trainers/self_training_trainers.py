"""Students of `nnunet-diffusion self-train`: the trainers they are named after, on true and pseudo-labels."""

from nnunet_diffusion_ensemble.training.students import (
    DiffusionEnsembleSelfTrainer,
    ScratchSelfTrainer,
    nnUNetTrainerSelfTraining,
)

__all__ = ["DiffusionEnsembleSelfTrainer", "ScratchSelfTrainer", "nnUNetTrainerSelfTraining"]
