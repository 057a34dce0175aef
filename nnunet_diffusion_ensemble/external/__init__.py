"""The folder for the variable `nnUNet_extTrainer`: one re-export module and nothing else, since nnU-Net walks it."""
