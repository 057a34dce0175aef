"""Plans: nnU-Net's, with the settings of the method."""
