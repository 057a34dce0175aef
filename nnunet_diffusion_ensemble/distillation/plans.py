"""Plans of the student: those of the teacher, under a name of their own, which say who teaches."""

import json
import os
from pathlib import Path
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.distillation.settings import KEY, DistillationSettings
from nnunet_diffusion_ensemble.method import PLANS_KEY
from nnunet_diffusion_ensemble.prediction.chosen_timesteps import averaging_over
from nnunet_diffusion_ensemble.prediction.model_folder import read_descriptions
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.training.self_training import DESCRIPTION, SelfTrainingData

SUFFIX = "Distilled"
STOCK_NETWORKS = "dynamic_network_architectures."
DETERMINE_VALUES = (  # of preprocessed images
    *("data_identifier", "preprocessor_name", "spacing", "normalization_schemes", "use_mask_for_norm"),
    *("resampling_fn_data", "resampling_fn_data_kwargs"),
)


def labelled_dataset(teacher: Path) -> str:
    """The data set of the teacher's true labels; for a student of self-training that of its first teacher."""
    plans, _ = read_descriptions(teacher)
    folder = Path(os.environ["nnUNet_preprocessed"]) / plans.dataset_name
    return SelfTrainingData.read(folder).labelled if (folder / DESCRIPTION).is_file() else plans.dataset_name


def write_plans(settings: DistillationSettings, configuration: str, dataset: str) -> str:
    """Writes the student's plans beside those of the data set.

    Args:
        settings: of the student.
        configuration: of the teacher, e.g. `2d`.
        dataset: name of the preprocessed data set of labelled and unlabelled images.

    Returns:
        their name.

    Raises:
        FileNotFoundError: the data set is not preprocessed with the teacher's plans.
        ValueError: the teacher's plans do not go with it, or with nnU-Net's own networks, or have no
            such timesteps.
    """
    manager, _ = read_descriptions(Path(settings.teacher))
    plans: dict[str, Any] = manager.plans
    resolved = manager.get_configuration(configuration).configuration
    _check_plans(resolved, manager.plans_name)
    if settings.teacher_timesteps:
        averaging_over(settings.teacher_timesteps, manager, configuration, Path(settings.teacher).name)
    _check_dataset(manager, configuration, dataset)
    name = f"{manager.plans_name}{SUFFIX}"
    own = {**resolved, KEY: settings.to_json()}
    content = {**plans, "dataset_name": dataset, "plans_name": name, "configurations": {configuration: own}}
    write_text(Path(os.environ["nnUNet_preprocessed"]) / dataset / f"{name}.json", json.dumps(content, indent=4))
    return name


def _check_plans(configuration: dict[str, Any], plans_name: str) -> None:
    if PLANS_KEY not in configuration:
        raise ValueError(
            f"The teacher's plans {plans_name} are not of this package, so they do not say how long to train. Name a "
            "model that was trained with plans of DiffusionEnsemblePlanner."
        )
    network = configuration["architecture"]["network_class_name"]
    if not network.startswith(STOCK_NETWORKS):
        raise ValueError(f"The teacher's plans name the network {network}, which is not one of nnU-Net's own.")


def _check_dataset(teacher: PlansManager, configuration: str, dataset: str) -> None:
    """The student learns from patches that the teacher reads as well, so both must be preprocessed alike."""
    file = Path(os.environ["nnUNet_preprocessed"]) / dataset / f"{teacher.plans_name}.json"
    if not file.is_file():
        raise FileNotFoundError(f"There are no plans {file}: the student needs images preprocessed as its teacher's.")
    there = PlansManager(read_object(file))
    theirs, ours = (manager.get_configuration(configuration).configuration for manager in (teacher, there))
    differing = [name for name in DETERMINE_VALUES if theirs.get(name) != ours.get(name)]
    if teacher.foreground_intensity_properties_per_channel != there.foreground_intensity_properties_per_channel:
        differing.append("intensities")
    if differing:
        raise ValueError(f"{file} differs from the teacher's plans in {', '.join(differing)}. Name its own data set.")
