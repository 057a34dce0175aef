"""The trainer of the package: one head on a pretrained denoiser, as the plans say (TEDM, arXiv 2311.07421)."""

from nnunet_diffusion_ensemble.training.timesteps import TimestepTrainer


class DiffusionEnsembleTrainer(TimestepTrainer):
    """Trains as the plans say: by default one head for all timesteps of a frozen denoiser.

    Each training image is noised to one of them, drawn anew in each iteration.
    """
