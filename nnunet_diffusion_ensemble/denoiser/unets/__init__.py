"""U-Nets that denoise: ours, and those of other libraries."""
