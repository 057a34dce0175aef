"""Trainers that nnU-Net finds with `-tr`; installed as `nnunet_diffusion_ensemble.trainers`."""
