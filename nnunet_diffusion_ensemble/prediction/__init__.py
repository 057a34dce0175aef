"""Prediction with trained models, and what their timesteps say about its uncertainty."""
