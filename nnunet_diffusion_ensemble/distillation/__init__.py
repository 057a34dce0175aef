"""A plain U-Net of nnU-Net that has learned from an ensemble, and needs nothing of this package to predict."""
