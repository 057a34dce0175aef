"""nnU-Net's own trainer with the augmentation for another hospital, and nothing else of this package."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.augmentation.shift import ShiftAugmentation


class nnUNetTrainerShiftAugmentation(ShiftAugmentation, nnUNetTrainer):  # type: ignore[misc]
    """Stock nnU-Net with translation, unequal scaling, black outside the image, and intensities changed in all."""
