"""`nnunet-diffusion plan` and `preprocess`: nnU-Net's steps with our planners, also where they cannot be registered."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.plan_and_preprocess_api import (
    extract_fingerprint_dataset,
    plan_experiment_dataset,
    preprocess_dataset,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.data.fingerprint import FINGERPRINT, LabelledFingerprint, has_unlabelled_fingerprint
from nnunet_diffusion_ensemble.data.unlabelled import preprocess_unlabelled
from nnunet_diffusion_ensemble.data.verify import verify_dataset
from nnunet_diffusion_ensemble.denoiser.source import denoiser_file, names_library, source_for_plans
from nnunet_diffusion_ensemble.method import DenoiserSettings, DiffusionMethod
from nnunet_diffusion_ensemble.nnunet.dataset_json import has_labels, read_dataset_json, refuse_missing_labels
from nnunet_diffusion_ensemble.nnunet.dataset_problems import refuse_json_problems
from nnunet_diffusion_ensemble.nnunet.datasets import PREPROCESSED, RAW, find_dataset, folder_of
from nnunet_diffusion_ensemble.nnunet.preprocessed import plans_that_are_there
from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner
from nnunet_diffusion_ensemble.planning.unlabelled import UnlabelledPlanner, unlabelled_fingerprint
from nnunet_diffusion_ensemble.system.guard import alone_at
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import blaming

PLANS_NAME = "nnUNetDiffusionEnsemblePlans"
PLAN_AGAIN = "Plan again: nnunet-diffusion plan."
EXTRACT_AGAIN = "Extract it again: nnunet-diffusion plan --clean."
FINGERPRINT_NEEDS = ("spacings", "shapes_after_crop", "foreground_intensity_properties_per_channel")
Planner = Callable[..., DiffusionEnsemblePlanner]


def plan(
    dataset_id: int,
    options: PlanningOptions,
    plans_name: str = PLANS_NAME,
    num_processes: int = 8,
    clean: bool = False,
    unlabelled: bool = False,
    denoiser: str | None = None,
    verify: bool = True,
    trust: bool = False,
) -> str:
    """Extracts the fingerprint where it is missing and writes the plans.

    Args:
        dataset_id: number of the data set in `nnUNet_raw`.
        options: changes to topology, batch size, memory target, spacing and method.
        plans_name: name of the plans.
        num_processes: processes of the fingerprint extraction.
        clean: extract the fingerprint anew.
        unlabelled: the data set has only `imagesUn`; plan for pretraining on it.
        denoiser: plan for this pretrained denoiser: a checkpoint, the name of a shipped one, or `LIBRARY:PATH` for
            one of another library.
        verify: read every image first, and refuse what is wrong with the data set.
        trust: run code of the denoiser's file if it cannot be read without. The plans name a copy without code, which
            is written beside them.

    Returns:
        the name of the plans.

    Raises:
        ValueError: options that are not allowed or contradict each other, a data set or a denoiser that does not fit.
        FileNotFoundError: no dataset.json, images or checkpoint.
        AtWorkError: another process plans this data set.
    """
    planner: Planner = UnlabelledPlanner if unlabelled else DiffusionEnsemblePlanner
    process, dimension = DenoiserSettings(), 2  # 2d is always planned
    if denoiser is not None:
        planner, process, dimension = _denoiser_planner(denoiser, options, unlabelled, trust)
    options.check_method(process, dimension)
    folder = folder_of(RAW) / find_dataset(dataset_id, PREPROCESSED)
    dataset_json = read_dataset_json(folder)
    refuse_json_problems(folder, dataset_json, needs_labels=False)
    preprocessed = folder_of(PREPROCESSED) / folder.name
    if not unlabelled:
        refuse_missing_labels(folder, dataset_json)
        if verify:
            verify_dataset(folder, preprocessed, dataset_json, num_processes)
        if missing := [key for key in ("labels", "numTraining") if key not in dataset_json]:
            raise ValueError(f"{folder / 'dataset.json'} lacks {' and '.join(missing)}.")
    preprocessed.mkdir(parents=True, exist_ok=True)
    with alone_at(preprocessed / FINGERPRINT):  # all plans of a data set share it
        _check_fingerprint(preprocessed / FINGERPRINT, clean)
        if unlabelled:
            unlabelled_fingerprint(folder, dataset_json, num_processes, clean)
        else:
            clean = clean or has_unlabelled_fingerprint(preprocessed)
            extract_fingerprint_dataset(dataset_id, LabelledFingerprint, num_processes, clean=clean, verbose=False)
        # nnU-Net sets torch's threads to this while it plans, and 0 crashes there.
        if os.environ.get("nnUNet_n_proc_DA") == "0":
            os.environ["nnUNet_n_proc_DA"] = "1"
        _, identifier = plan_experiment_dataset(
            dataset_id,
            partial(planner, options=options, verify=False),  # type: ignore[arg-type]
            options.gpu_memory_target_gb,
            overwrite_target_spacing=options.target_spacing,  # type: ignore[arg-type]
            overwrite_plans_name=plans_name,
        )
    return identifier


def _denoiser_planner(
    denoiser: str, options: PlanningOptions, unlabelled: bool, trust: bool
) -> tuple[Planner, DenoiserSettings, int]:
    """The planner for a pretrained denoiser, its diffusion process and its dimension."""
    if unlabelled:
        raise ValueError(
            "--unlabelled plans for the pretraining of a denoiser, --denoiser for the use of one: give one of the two."
        )
    # Imported here since they bring in MONAI, which takes seconds.
    from nnunet_diffusion_ensemble.planning.for_denoiser import (
        DECIDED_BY_ANY,
        DenoiserPlanner,
        refuse_contradictions,
        refuse_incomplete,
    )

    if names_library(denoiser):
        from nnunet_diffusion_ensemble.denoiser.foreign.denoiser import read_foreign
        from nnunet_diffusion_ensemble.planning.for_foreign import ForeignDenoiserPlanner

        refuse_contradictions(options, DECIDED_BY_ANY)
        foreign = read_foreign(denoiser)
        return partial(ForeignDenoiserPlanner, foreign=foreign, source=denoiser), foreign.settings, foreign.dimension
    from nnunet_diffusion_ensemble.denoiser.pretrained import read_pretrained

    refuse_contradictions(options)
    pretrained = read_pretrained(denoiser_file(denoiser), trust)
    pretrained.refuse_untrained()
    refuse_incomplete(pretrained)
    planner = partial(DenoiserPlanner, denoiser=pretrained, source=source_for_plans(denoiser), copies=trust)
    return planner, pretrained.settings, len(pretrained.patch_size)


def _check_fingerprint(file: Path, clean: bool) -> None:
    """Raises ValueError if what nnU-Net is about to take for the fingerprint is none."""
    if clean or not file.exists():
        return
    fingerprint = read_object(file, EXTRACT_AGAIN)
    if missing := [key for key in FINGERPRINT_NEEDS if key not in fingerprint]:
        raise ValueError(f"{file} lacks {', '.join(missing)}. {EXTRACT_AGAIN}")


def preprocess(
    dataset_id: int, configurations: Sequence[str], plans_name: str, num_processes: int, verify: bool = True
) -> bool:
    """Preprocesses labelled cases (nnU-Net's preprocessing) and unlabelled ones.

    Args:
        dataset_id: number of the data set in `nnUNet_raw`.
        configurations: of the plans.
        plans_name: name of the plans.
        num_processes: processes of each step.
        verify: read every image first, as `plan` does, unless it did and they have not changed.

    Returns:
        whether the first configuration names a pretrained denoiser.

    Raises:
        FileNotFoundError: there are no such plans.
        ValueError: the plans lack a configuration or hold settings that are not allowed (then nothing is written), or
            files cannot be preprocessed.
        AtWorkError: another process preprocesses this data set as these plans say.
    """
    folder = folder_of(PREPROCESSED) / find_dataset(dataset_id)
    plans = read_plans(folder / f"{plans_name}.json", configurations)
    dataset_json = read_planned_dataset_json(folder)
    with blaming(folder / f"{plans_name}.json", PLAN_AGAIN):
        managers = [PlansManager(plans).get_configuration(name) for name in configurations]
        names = dict.fromkeys(manager.data_identifier for manager in managers)
    methods = [DiffusionMethod.from_plans(manager.configuration) for manager in managers]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(alone_at(folder / name))
        if has_labels(dataset_json) and verify:
            raw = folder_of(RAW) / folder.name
            verify_dataset(raw, folder, read_dataset_json(raw), num_processes)
        if has_labels(dataset_json):
            preprocess_dataset(dataset_id, plans_name, tuple(configurations), (num_processes,))
        for configuration in configurations:
            preprocess_unlabelled(dataset_id, configuration, plans_name, num_processes)
    return methods[0].pretrained_checkpoint is not None


def read_planned_dataset_json(preprocessed: Path) -> dict[str, Any]:
    """`dataset.json` as planning left it in the folder of preprocessed data.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    file = preprocessed / "dataset.json"
    dataset_json = read_object(file, PLAN_AGAIN)
    if missing := [key for key in ("labels", "file_ending") if key not in dataset_json]:
        raise ValueError(f"{file} lacks {', '.join(missing)}. {PLAN_AGAIN}")
    return dataset_json


def read_plans(plans_file: Path, configurations: Sequence[str]) -> dict[str, Any]:
    """Plans that have some configurations.

    Raises:
        FileNotFoundError: there are no such plans.
        ValueError: they lack a configuration, or are damaged.
    """
    if not plans_file.is_file():
        others = plans_that_are_there(plans_file.parent)
        raise FileNotFoundError(f"There are no plans {plans_file}. Make them with nnunet-diffusion plan{others}.")
    plans = read_object(plans_file, PLAN_AGAIN)
    with blaming(plans_file, PLAN_AGAIN):
        missing = [name for name in configurations if name not in plans["configurations"]]
        if missing:
            there = ", ".join(plans["configurations"])
            raise ValueError(f"{plans_file} has no configuration {missing[0]}, only {there}.")
    return plans
