"""What of nnU-Net is read and written: its raw data sets, its checkpoints, its look-up of classes."""
