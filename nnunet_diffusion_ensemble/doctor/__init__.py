"""What `nnunet-diffusion doctor` looks at: the machine, and the data sets on it."""
