"""What all trainers of the package share: settings from the plans, safe checkpoints, seeded noise."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint, write_checkpoint
from nnunet_diffusion_ensemble.nnunet.preprocessed import refuse_unpreprocessed
from nnunet_diffusion_ensemble.nnunet.pretrainings import PRETRAINS
from nnunet_diffusion_ensemble.system.devices import usable_device
from nnunet_diffusion_ensemble.system.environment import cores
from nnunet_diffusion_ensemble.system.guard import AtWorkError, alone_in
from nnunet_diffusion_ensemble.system.out_of_memory import telling_what_to_lower
from nnunet_diffusion_ensemble.system.told import tell_in_nnunets_commands
from nnunet_diffusion_ensemble.training.continuing import (
    EARLIER,
    refuse_foreign_checkpoint,
    remove_partial_files,
    set_earlier_checkpoints_aside,
)
from nnunet_diffusion_ensemble.training.processes import (
    BatchShare,
    device_of_process,
    drawn_in_blocks,
    from_first_process,
    seeded_generator,
    without_wrappers,
)
from nnunet_diffusion_ensemble.training.splits import FOLDS_OF_NNUNET, prepare_splits, split_in_words

GRADIENT_CLIP = 12.0  # nnU-Net's
SAVE_EVERY = 5  # epochs; nnU-Net's 50 is more than many of our trainings have

tell_in_nnunets_commands()


class DiffusionTrainer(nnUNetTrainer):
    """nnU-Net's trainer with the settings of the method and without deep supervision.

    Attributes:
        pretrains: for a pretraining what it pretrains, see `nnunet.pretrainings`. Subclasses pretrain the same.

    Raises:
        ValueError: if the plans were not made by `DiffusionEnsemblePlanner`.
        NotImplementedError: for a cascade.
    """

    pretrains: ClassVar[str | None] = None
    dataset_class: Any
    is_ddp: bool
    network: Any

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ):
        manager = PlansManager(plans).get_configuration(configuration)
        self.method = DiffusionMethod.from_plans(manager.configuration)
        if manager.previous_stage_name is not None:
            raise NotImplementedError(
                f"Configuration {configuration} is a cascade, which the diffusion ensemble does not support: its "
                "denoiser would see the previous segmentation as an image. Use 2d, 3d_fullres or 3d_lowres."
            )
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
        self.gradient_clip = GRADIENT_CLIP
        self.save_every = SAVE_EVERY
        self.share = BatchShare()
        self.precision: str | None = None
        if self.is_ddp:
            self.device = device_of_process(device.type)
            if self.device.type != "cuda":
                self.grad_scaler = None

    @property
    def fuses_optimizer(self) -> bool:
        """Whether the optimizer is one kernel, which learns of an overflow in float16 without halting the GPU."""
        return self.device.type == "cuda"

    def initialize(self) -> None:
        """nnU-Net's. What it does for several processes is done here, since there the rank is the number of the GPU,
        which holds on one machine only, and every process has a GPU."""
        usable_device(self.device.type)
        if self.device.type == "cpu":  # nnU-Net takes a thread for each core of the machine, whoever else has them
            torch.set_num_threads(min(torch.get_num_threads(), cores()))
        refuse_unpreprocessed(
            Path(self.preprocessed_dataset_folder), self.configuration_name, self.plans_manager.plans_name
        )
        several_processes, self.is_ddp = self.is_ddp, False
        super().initialize()
        self.is_ddp = several_processes
        self.optimizer.register_load_state_dict_pre_hook(self._keep_fused)
        if self.is_ddp:
            self.share_batch()
            self.loss = self._build_loss()
            if self.device.type == "cuda":
                self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
            self.distribute()

    def distribute(self) -> None:
        """Has the processes share their gradients: anew when other parameters are to learn."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        self.network = DistributedDataParallel(network, [self.device] if self.device.type == "cuda" else None)

    def _keep_fused(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        """The state that another device left, with groups that say what is right on this one."""
        return {**state, "param_groups": [{**group, "fused": self.fuses_optimizer} for group in state["param_groups"]]}

    def share_batch(self) -> None:
        """Takes this process's part of the batch.

        Raises:
            ValueError: there are more processes than images in it.
        """
        rank, num_processes, batch_size = dist.get_rank(), dist.get_world_size(), self.configuration_manager.batch_size
        if batch_size < num_processes:
            raise ValueError(
                f"A batch of {batch_size} cannot be shared by {num_processes} processes: use fewer, or plan with a "
                "larger batch."
            )
        self._set_batch_size_and_oversample()
        self.share = BatchShare.of_process(rank, num_processes, batch_size)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:
        *others, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        if self.method.mirror_axes is not None:
            axes = self.method.mirror_axes
            self.inference_allowed_mirroring_axes = axes or None
        return (*others, axes)

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's, of a splits file that is checked; with fewer than five cases each validates once.

        Raises:
            ValueError: the file is malformed or does not fit, see `prepare_splits`.
        """
        if self.fold == "all":
            return super().do_split()
        self.dataset_class = self.dataset_class or infer_dataset_class(self.preprocessed_dataset_folder)
        cases = self.dataset_class.get_identifiers(self.preprocessed_dataset_folder)
        folder = Path(self.preprocessed_dataset_folder_base)
        from_first_process(lambda: prepare_splits(folder, cases, int(self.fold)))
        training, validation = super().do_split()
        if len(cases) < FOLDS_OF_NNUNET or not validation:
            self.print_to_log_file(split_in_words(training, validation))
        return training, validation

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is no deep supervision to switch."""

    @property
    def plain_network(self) -> Any:
        """The network without the wrappers of DDP and torch.compile."""
        return without_wrappers(self.network)

    def compute_in(self, precision: str | None) -> None:
        """Sets the precision of what is learned, which the plans name; None is nnU-Net's choice."""
        self.precision = precision
        if precision in ("float32", "bfloat16"):
            self.grad_scaler = None  # only float16 has a range too small for gradients

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision: what the plans name, else nnU-Net's choice, which is float16 on CUDA."""
        precision = self.precision or ("float16" if self.device.type == "cuda" else "float32")
        if precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, precision))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process trains or validates this fold until the block ends; of several the first process sees to it.

        If another one does, this process ends with status 2 and says so: nnU-Net's commands would show a stack trace.
        """
        with ExitStack() as stack:
            if self.local_rank == 0:
                try:
                    stack.enter_context(alone_in(Path(self.output_folder)))
                except AtWorkError as error:
                    self.print_to_log_file(f"Error: {error}")
                    raise SystemExit(2) from error
            yield

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self.alone():
            super().perform_actual_validation(save_probabilities)

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.local_rank == 0 and not self.disable_checkpointing:
            remove_partial_files(Path(self.output_folder))
            earlier = set_earlier_checkpoints_aside(Path(self.output_folder)) if self.current_epoch == 0 else []
            if earlier:
                self.print_to_log_file(f"Of an earlier training, renamed to {EARLIER}...: {', '.join(earlier)}")

    def run_training(self) -> None:
        with self.alone(), telling_what_to_lower(self.memory_settings()):
            super().run_training()

    def memory_settings(self) -> dict[str, Any]:
        """Settings of the plans that the memory of training depends on, the first to lower first."""
        configuration = self.configuration_manager
        return {"batch_size": configuration.batch_size, "patch_size": list(configuration.patch_size)}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.iteration = self.current_epoch * self.num_iterations_per_epoch

    def generator(self, seed: int, image: int, *numbers: int) -> torch.Generator:
        """Random numbers for an image of this process's batch: they depend on the seed, the iteration, the image's
        position in the global batch and further numbers, so that neither a restart nor processes change them."""
        return seeded_generator(self.device, seed, self.iteration, self.share.start + image, *numbers)

    def drawn(self, draw: Callable[[torch.Generator, int], Tensor], num_images: int, seed: int, number: int) -> Tensor:
        """What `draw` gives for the images of this process's batch, (N, ...), on the device. It depends as in
        `generator` on seed, iteration, position in the global batch and a number; see `drawn_in_blocks`."""
        images = range(self.share.start, self.share.start + num_images)
        return drawn_in_blocks(draw, self.device, images, seed, self.iteration, number)

    def noise(self, images: Tensor, seed: int, number: int) -> Tensor:
        """Standard normal noise for each image, of their shape (N, C, *space)."""

        def draw(generator: torch.Generator, num_images: int) -> Tensor:
            return torch.randn(num_images, *images.shape[1:], device=self.device, generator=generator)

        return self.drawn(draw, len(images), seed, number)

    def backward(self, loss: Tensor) -> None:
        (loss if self.grad_scaler is None else self.grad_scaler.scale(loss)).backward()

    def clip_and_step(self) -> None:
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.gradient_clip)
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Brings the losses of all steps from the device at once: to ask for each would halt a GPU at every step."""
        losses = torch.stack([output["loss"] for output in train_outputs]).cpu().numpy()
        super().on_train_epoch_end([{"loss": loss} for loss in losses])

    def checkpoint(self) -> dict[str, Any]:
        """nnU-Net's checkpoint, as its own trainer writes it, and what is pretrained."""
        return {
            "network_weights": self.plain_network.state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": self.__class__.__name__,
            PRETRAINS: self.pretrains,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }

    def save_checkpoint(self, filename: str) -> None:
        """Writes `checkpoint()`, whole or not at all."""
        if self.local_rank == 0 and not self.disable_checkpointing:
            write_checkpoint(self.checkpoint(), filename)

    def save_latest_checkpoint(self) -> None:
        """Every few epochs, after `checkpoint_best`: continuing from it must not depend on a best one that a kill in
        between left unwritten, as nnU-Net's order does."""
        if (self.current_epoch + 1) % self.save_every == 0:
            self.save_checkpoint(str(Path(self.output_folder) / "checkpoint_latest.pth"))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """nnU-Net's, for checkpoints of the same trainer and network.

        Raises:
            ValueError: the file is truncated, of another kind, or of another trainer or network.
        """
        file = Path(filename_or_checkpoint)
        if not self.was_initialized:
            self.initialize()
        checkpoint = read_checkpoint(file, trusted=True)
        configuration, weights = self.configuration_manager.configuration, self.plain_network.state_dict()
        refuse_foreign_checkpoint(checkpoint, file, type(self).__name__, configuration, weights)
        super().load_checkpoint(str(file))  # again from the file: a dict, which its types allow, it cannot read
        self.restore(checkpoint)

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """For what a trainer keeps beside nnU-Net's: `checkpoint` is on the CPU."""
