"""Training of the plans' U-Net itself, without a denoiser; from scratch unless a trainer loads weights."""

from nnunet_diffusion_ensemble.training.segmentation import SegmentationTrainer


class PlainUNetTrainer(SegmentationTrainer):
    """Trains the `ResidualEncoderUNet` of the plans with nnU-Net's augmentation and loss, as `training` says."""

    def train_step(self, batch: dict) -> dict:
        images = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"].to(self.device, non_blocking=True)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.loss(self.network(images), target) * self.share.loss_weight
        self.backward(loss)
        self.clip_and_step()
        return {"loss": loss.detach()}
