"""`nnunet-diffusion plan` and `preprocess`: nnU-Net's steps with our planner, also where it cannot be registered."""

import os
from collections.abc import Sequence
from functools import partial

from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)

from nnunet_diffusion_ensemble.planners.diffusion_ensemble_planner import DiffusionEnsemblePlanner, PlanningOptions
from nnunet_diffusion_ensemble.unlabelled import preprocess_unlabelled

PLANS_NAME = "nnUNetDiffusionEnsemblePlans"


def plan(
    dataset_id: int,
    options: PlanningOptions,
    plans_name: str = PLANS_NAME,
    gpu_memory_target_gb: float | None = None,
    target_spacing: Sequence[float] | None = None,
    num_processes: int = 8,
    clean: bool = False,
) -> str:
    """Extracts the fingerprint where it is missing and writes the plans.

    Args:
        dataset_id: number of the data set in `nnUNet_raw`.
        options: changes to topology, batch size and method.
        plans_name: name of the plans.
        gpu_memory_target_gb: nnU-Net's memory target; None is its default of 8.
        target_spacing: spacing of 3d_fullres in mm, as nnU-Net's `-overwrite_target_spacing`.
        num_processes: processes of the fingerprint extraction.
        clean: extract the fingerprint anew.

    Returns:
        the name of the plans.
    """
    extract_fingerprint_dataset(dataset_id, num_processes=num_processes, clean=clean, verbose=False)
    # nnU-Net sets torch's threads to this while it plans, and 0 crashes there.
    if os.environ.get("nnUNet_n_proc_DA") == "0":
        os.environ["nnUNet_n_proc_DA"] = "1"
    planner = partial(DiffusionEnsemblePlanner, options=options)
    _, identifier = plan_experiment_dataset(
        dataset_id,
        planner,  # type: ignore[arg-type]
        gpu_memory_target_gb,
        overwrite_target_spacing=target_spacing,  # type: ignore[arg-type]
        overwrite_plans_name=plans_name,
    )
    return identifier


def preprocess(dataset_id: int, configurations: Sequence[str], plans_name: str, num_processes: int) -> None:
    """Preprocesses labelled cases (nnU-Net's preprocessing) and unlabelled ones."""
    preprocess_dataset(dataset_id, plans_name, tuple(configurations), (num_processes,))
    for configuration in configurations:
        preprocess_unlabelled(dataset_id, configuration, plans_name, num_processes)
