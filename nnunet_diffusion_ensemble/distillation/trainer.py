"""The student's trainer: the plans' U-Net, true labels where there are some, the teacher's probabilities elsewhere.

The teacher sees the very patch that the student sees, augmented as it is, rather than once each whole image: so there
is nothing to store or to transform along, and the student learns the teacher's function where it is used ("A good
teacher is patient and consistent", Beyer et al. 2022, arXiv 2106.05237).
"""

from typing import Any

import torch
from torch import Tensor

from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset
from nnunet_diffusion_ensemble.distillation.data import LabelledAndUnlabelled
from nnunet_diffusion_ensemble.distillation.loss import SoftTargetLoss, true_target, with_predicted
from nnunet_diffusion_ensemble.distillation.settings import DistillationSettings
from nnunet_diffusion_ensemble.distillation.teacher import FrozenTeacher, read_teacher
from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes
from nnunet_diffusion_ensemble.self_training.sampling import mixed_cases
from nnunet_diffusion_ensemble.training.plain_unet import PlainUNetTrainer
from nnunet_diffusion_ensemble.training.processes import from_first_process

HEADS = ".seg_layers."


class DistillationTrainer(PlainUNetTrainer):
    """Trains with the settings of `training` and `distillation` in the plans."""

    teacher: FrozenTeacher
    soft_loss: SoftTargetLoss

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        self.distillation = DistillationSettings.from_plans(self.configuration_manager.configuration)
        self.teacher = read_teacher(self.distillation).to(self.device)
        are_regions, batch_dice = self.label_manager.has_regions, self.configuration_manager.batch_dice
        self.soft_loss = SoftTargetLoss(are_regions, batch_dice, self.is_ddp)
        if self.current_epoch == 0:
            self._start_from_denoiser()
        super().on_train_start()

    def _start_from_denoiser(self) -> None:
        own = self.plain_network.state_dict()
        try:
            weights = self.teacher.folded(self.distillation.timestep)
        except ValueError as error:
            self.print_to_log_file(f"Starts from random weights. {error}")
            return
        if different_shapes(weights, {name: value for name, value in own.items() if HEADS not in name}):
            self.print_to_log_file("Starts from random weights: the teacher's denoiser is another U-Net.")
            return
        self.plain_network.load_state_dict({**own, **weights})
        self.print_to_log_file(f"Starts from the teacher's denoiser at timestep {self.distillation.timestep}.")

    # ---- data

    def get_tr_and_val_datasets(self) -> tuple[LabelledAndUnlabelled, Any]:
        training, validation = super().get_tr_and_val_datasets()
        self.unlabelled = self._unlabelled_images()
        if not len(self.unlabelled.identifiers):
            raise ValueError("There is nothing to learn from the teacher: imagesUn of the raw data set has no images.")
        true = list(training.identifiers)
        names = self.unlabelled.identifiers.tolist()
        self.print_to_log_file(f"Learning from {len(true)} labelled and {len(names)} unlabelled images.")
        cases = mixed_cases(true, names, self.distillation.true_share)
        labels = self.label_manager.all_labels
        mixed = LabelledAndUnlabelled(self.preprocessed_dataset_folder, self.unlabelled, cases, labels)
        return mixed, validation

    def _unlabelled_images(self) -> UnlabelledDataset:
        plans = self.plans_manager

        def preprocess() -> UnlabelledDataset:
            return UnlabelledDataset(
                preprocess_unlabelled(plans.dataset_name, self.configuration_name, plans.plans_name)
            )

        return from_first_process(preprocess)

    # ---- training

    def train_step(self, batch: dict) -> dict:
        images = batch["data"].to(self.device, non_blocking=True)
        target = true_target(batch["target"].to(self.device, non_blocking=True), self.label_manager)
        rows = self._unlabelled_rows(batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            if len(rows):
                target = with_predicted(target, rows, self.teacher(images[rows]))
            logits = self.network(images)
        loss = self.soft_loss(logits.float(), target) * self.share.loss_weight
        self.backward(loss)
        self.clip_and_step()
        return {"loss": loss.detach()}

    def _unlabelled_rows(self, batch: dict) -> Tensor:
        rows = [i for i, case in enumerate(batch["keys"]) if case in self.unlabelled]
        return torch.tensor(rows, dtype=torch.long, device=self.device)
