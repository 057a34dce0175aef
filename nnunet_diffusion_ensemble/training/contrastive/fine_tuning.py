"""Fine-tuning after contrastive pretraining (Chaitanya et al. 2020, arXiv 2006.10511): all weights are trained."""

from nnunet_diffusion_ensemble.nnunet.pretrainings import GLOBAL, LOCAL
from nnunet_diffusion_ensemble.training.contrastive.weights import StartsFromContrastive
from nnunet_diffusion_ensemble.training.plain_unet import PlainUNetTrainer


class GlobalContrastiveTrainer(StartsFromContrastive, PlainUNetTrainer):
    """Starts with the encoder of `GlobalContrastivePretrainTrainer` and a fresh decoder."""

    pretraining = GLOBAL


class GlobalLocalContrastiveTrainer(StartsFromContrastive, PlainUNetTrainer):
    """Starts with encoder and first decoder stages of `GlobalLocalContrastivePretrainTrainer`; the others are fresh."""

    pretraining = LOCAL
