"""The baseline of the TEDM paper, but with nnU-Net's augmentation: the same U-Net, trained on the labels alone."""

from nnunet_diffusion_ensemble.training.plain_unet import PlainUNetTrainer


class ScratchTrainer(PlainUNetTrainer):
    """Trains the U-Net of the plans from random weights, without deep supervision, for as long as the head."""
