"""The segmentation network: heads on a denoiser that is read at several timesteps. Users' plans name its class here."""

from nnunet_diffusion_ensemble.network.ensemble import TimestepEnsembleNetwork

__all__ = ["TimestepEnsembleNetwork"]
