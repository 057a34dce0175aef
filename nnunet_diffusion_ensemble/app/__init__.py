"""The page of `nnunet-diffusion app`: one image, what a model says of it, and how far to trust that."""
