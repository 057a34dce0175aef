"""Finding a contrastive pretraining, checking that it fits, and loading it into a U-Net."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nnunetv2.paths import nnUNet_results
from torch import Tensor, nn

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.pretrainings import GLOBAL, LOCAL, TRAINER_OF, finished_pretraining
from nnunet_diffusion_ensemble.nnunet.shapes import different_shapes, listed
from nnunet_diffusion_ensemble.training.trainer import DiffusionTrainer

PARTS_KEY = "pretrained_parts"  # of a checkpoint: beginnings of the names of the weights that are pretrained
ENCODER = "encoder."


def load_contrastive(network: nn.Module, file: Path, with_decoder: bool) -> list[str]:
    """Loads what a contrastive pretraining has trained; all other weights stay as they are.

    Args:
        network: with the names of nnU-Net's U-Nets.
        file: checkpoint of either contrastive pretraining.
        with_decoder: whether stages of the decoder are loaded, too.

    Returns:
        beginnings of the names of the weights that were loaded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such checkpoint, has no pretrained decoder, or does not fit.
    """
    checkpoint = read_checkpoint(file)
    parts = [part for part in checkpoint.get(PARTS_KEY, ()) if with_decoder or part == ENCODER]
    if not parts or (with_decoder and parts == [ENCODER]):
        raise ValueError(
            f"{file} holds no {'decoder' if parts else 'encoder'} with contrastive pretraining: it was written by "
            f"{checkpoint['trainer_name']}. Name a checkpoint of {TRAINER_OF[LOCAL if with_decoder else GLOBAL]}."
        )
    weights, own = (_of_parts(state, parts) for state in (checkpoint["network_weights"], network.state_dict()))
    differences = different_shapes(weights, own)
    if differences:
        raise ValueError(
            f"The weights in {file} do not fit this network:{listed(differences)}\nPretrain with these plans."
        )
    network.load_state_dict(weights, strict=False)
    return parts


def _of_parts(state: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith(tuple(parts))}


class StartsFromContrastive(DiffusionTrainer):
    """Starts from nnU-Net's `-pretrained_weights`, else from the file that the plans name, else from the pretraining.

    That is a pretraining of the same data set, plans and configuration, of this fold or else of fold `all`.

    Attributes:
        pretraining: what it starts from, GLOBAL or LOCAL.

    Raises:
        FileNotFoundError: there is nothing to start from, when training starts; the message says how to make it.
        ValueError: what there is does not fit, as in `load_contrastive`.
    """

    pretraining: ClassVar[str]

    def initialize(self) -> None:
        super().initialize()
        self.has_loaded_weights = False
        self.plain_network.register_load_state_dict_post_hook(self._note_loaded_weights)

    def _note_loaded_weights(self, *arguments: Any) -> None:
        """Also those that nnU-Net loads, for `-pretrained_weights` or `--c`."""
        self.has_loaded_weights = True

    def on_train_start(self) -> None:
        if not self.was_initialized:
            self.initialize()
        if not self.has_loaded_weights:
            file = self._find_pretraining()
            parts = load_contrastive(self.plain_network, file, with_decoder=self.pretraining == LOCAL)
            self.print_to_log_file(f"Pretrained weights: {file} ({', '.join(parts)})")
        super().on_train_start()

    def _find_pretraining(self) -> Path:
        plans, file = self.plans_manager, self.method.contrastive.pretrained_checkpoint
        if file is None:
            results = Path(nnUNet_results) / plans.dataset_name
            return finished_pretraining(results, self.pretraining, plans.plans_name, self.configuration_name, self.fold)
        if not Path(file).is_file():
            raise FileNotFoundError(f"The plans name {file} as contrastive.pretrained_checkpoint: no such file.")
        return Path(file)
