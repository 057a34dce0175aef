"""The denoiser: its U-Nets, its diffusion process, where it comes from, and what is made with it alone."""
