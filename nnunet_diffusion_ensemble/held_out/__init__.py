"""`nnunet-diffusion calibrate`: labelled cases that a training has not seen, predicted and compared."""
