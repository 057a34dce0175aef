"""Experiment planners that nnU-Net finds with `-pl`; installed as `nnunet_diffusion_ensemble.planners`."""
