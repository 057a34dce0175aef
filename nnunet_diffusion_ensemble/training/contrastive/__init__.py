"""Contrastive pretraining (Chaitanya et al. 2020, arXiv 2006.10511), the rival of the diffusion one."""
