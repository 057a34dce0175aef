"""A folded denoiser in the form of nnssl's checkpoints, which nnU-Net fine-tunes after its release 2.8.

The keys are those that nnU-Net's master reads: `nnunetv2/experiment_planning/like_nnssl.py` (commit 202f6ba) and
`nnunetv2/training/nnUNetTrainer/pretraining/pretrainedTrainer.py` (commit 3605eea) of github.com/MIC-DKFZ/nnUNet.
"""

from collections.abc import Mapping
from typing import Any

from nnunet_diffusion_ensemble.denoiser.pretrained import PretrainedDenoiser

ADAPTATION_PLAN, CITATIONS = "nnssl_adaptation_plan", "citations"
# Where nnU-Net's ResidualEncoderUNet has them.
ENCODER, STEM = "encoder.stages", "encoder.stem"
INPUT_PROJECTIONS = ("encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0")
# The one U-Net that these readers know by name, with what makes it that; others they build from plans of nnU-Net.
NAMED = "ResEncL"
NAMED_TOPOLOGY = {
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": [[3, 3, 3]] * 6,
    "strides": [[1, 1, 1], *[[2, 2, 2]] * 5],
    "n_blocks_per_stage": [1, 3, 4, 6, 6, 6],
    "n_conv_per_stage_decoder": [1] * 5,
}
PAPERS = (
    "Rosnati, M., Roschewitz, M., & Glocker, B. (2023). Robust semi-supervised segmentation with timestep ensembling "
    "diffusion models. Machine Learning for Health (ML4H).",
    "Ho, J., Jain, A., & Abbeel, P. (2020). Denoising diffusion probabilistic models. Advances in Neural Information "
    "Processing Systems, 33.",
)


def nnssl_description(denoiser: PretrainedDenoiser) -> dict[str, Any]:
    """What stands in such a checkpoint beside `network_weights`.

    Args:
        denoiser: of volumes, of the package's own kind.

    Returns:
        `nnssl_adaptation_plan` and `citations`, of plain values.

    Raises:
        ValueError: the denoiser is one of pictures.
    """
    if len(denoiser.patch_size) != 3:
        size = " x ".join(map(str, denoiser.patch_size))
        raise ValueError(
            f"The denoiser in {denoiser.file} is one of pictures, of {size} pixels, "
            "and nnU-Net fine-tunes nnssl's checkpoints on volumes alone. Leave out --format: with --timestep alone it "
            "is written for nnUNetTrainer -pretrained_weights."
        )
    plan = {
        "architecture_plans": _architecture(denoiser.architecture),
        "pretrain_plan": {
            "plans_name": denoiser.plans.get("plans_name"),
            "dataset_name": denoiser.plans.get("dataset_name"),
            "configurations": {denoiser.configuration_name: _configuration(denoiser.configuration)},
        },
        "pretrain_num_input_channels": denoiser.channels,
        "recommended_downstream_patchsize": list(denoiser.patch_size),
        "key_to_encoder": ENCODER,
        "key_to_stem": STEM,
        "keys_to_in_proj": list(INPUT_PROJECTIONS),
        "key_to_lpe": None,  # of transformers
    }
    citation = {"type": "Pretraining", "name": "denoising diffusion", "apa_citations": list(PAPERS)}
    return {ADAPTATION_PLAN: plan, CITATIONS: [citation]}


def _configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """How images were preprocessed."""
    keys = ("spacing", "patch_size", "normalization_schemes", "use_mask_for_norm", "batch_size")
    return {key: configuration[key] for key in keys if key in configuration}


def _architecture(architecture: Mapping[str, Any]) -> dict[str, Any]:
    """By name where it has one, else by nnU-Net's class and its arguments."""
    arguments = architecture["arch_kwargs"]
    if all(_lists(arguments.get(key)) == value for key, value in NAMED_TOPOLOGY.items()):
        return {"arch_class_name": NAMED, "arch_kwargs": None, "arch_kwargs_requiring_import": None}
    return {
        "arch_class_name": architecture["network_class_name"],
        "arch_kwargs": dict(arguments),
        "arch_kwargs_requiring_import": list(architecture["_kw_requires_import"]),
    }


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
