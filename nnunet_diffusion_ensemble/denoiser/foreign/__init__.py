"""Denoisers that other libraries trained: their U-Nets, and reading what they saved."""
