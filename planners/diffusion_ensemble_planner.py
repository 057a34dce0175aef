"""The planner of the package: nnU-Net's residual-encoder rules, and the method written into the plans."""

from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner

__all__ = ["DiffusionEnsemblePlanner"]
