"""The folder of a trained model: its files, what its plans and dataset.json say, and what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_diffusion_ensemble.nnunet.checkpoint import read_checkpoint
from nnunet_diffusion_ensemble.nnunet.pretrainings import PRETRAINS
from nnunet_diffusion_ensemble.nnunet.trainer_classes import find_trainer
from nnunet_diffusion_ensemble.postprocessing.file import LEARN, postprocessing_file, read_shares
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import blaming
from nnunet_diffusion_ensemble.system.places import refuse_file

COPY = "Copy it again from where the model was trained."
PLANS_NEED, DATASET_NEEDS = ("configurations", "image_reader_writer"), ("labels", "file_ending")


def named_regions(labels: LabelManager) -> dict[str, tuple[int, ...]]:
    """Names of a network's classes or regions, in the order of its channels, with the labels of each."""
    described = {
        name: tuple(value) if isinstance(value, (list, tuple)) else (int(value),)
        for name, value in labels.label_dict.items()
        if name != "ignore"
    }
    if labels.has_regions:
        return {name: values for name, values in described.items() if set(values) != {0}}
    return dict(sorted(described.items(), key=lambda item: item[1]))


def _read_json(file: Path) -> dict[str, Any]:
    refuse_file(file.parent)
    if not file.is_file():
        others = sorted(path.name for path in file.parent.parent.glob("*__*__*") if (path / file.name).is_file())
        trained = f" Trained is {', '.join(others)}." if others else ""
        raise FileNotFoundError(f"{file.parent} is not a folder of a trained model: it has no {file.name}.{trained}")
    return read_object(file, COPY)


def checkpoint_files(folder: Path, settings: PredictionSettings) -> list[Path]:
    """The checkpoint of each fold.

    Raises:
        FileNotFoundError: one is missing; those that are there are named.
    """
    files = [folder / f"fold_{fold}" / settings.checkpoint_name for fold in settings.folds]
    missing = [file for file in files if not file.is_file()]
    if missing:
        there = sorted(folder.glob("fold_*/checkpoint_*.pth"))
        options = [f"-f {file.parent.name.removeprefix('fold_')} -chk {file.name}" for file in there]
        raise FileNotFoundError(
            f"There is no {missing[0]}. Train this fold to its end (nnUNetv2_train ... --c goes on), or name folds "
            f"that are trained, and their checkpoint; there is {', '.join(options) or 'none'}."
        )
    return files


def model_files(folder: Path, settings: PredictionSettings) -> list[Path]:
    """All files of a trained model that its predictions depend on. Raises as `checkpoint_files` and
    `small_components` do of what is missing."""
    learned = [postprocessing_file(folder, settings.folds)] if settings.postprocessed else []
    if learned and not learned[0].is_file():
        raise FileNotFoundError(f"There is no {learned[0]}. {LEARN}")
    return [*(folder / name for name in ("plans.json", "dataset.json")), *learned, *checkpoint_files(folder, settings)]


def small_components(
    folder: Path, settings: PredictionSettings, regions: Mapping[str, tuple[int, ...]]
) -> list[tuple[tuple[int, ...], float]]:
    """Of which labels what components are removed, as `remove_small_components` has it; none unless asked for.

    Raises:
        FileNotFoundError: it was asked for, but was not learned of these folds.
        ValueError: the file is damaged, or names what the model does not predict.
    """
    if not settings.postprocessed:
        return []
    file = postprocessing_file(folder, settings.folds)
    shares = read_shares(file)
    if unknown := sorted(shares.keys() - regions.keys()):
        raise ValueError(f"{file} names {', '.join(unknown)}, which the model does not predict. {LEARN}")
    return [(regions[name], share) for name, share in shares.items()]


def trainer_class(name: str) -> Any:
    """A trainer of segmentation by its name; ours are found without registration.

    Raises:
        ValueError: there is none, or it is a pretraining.
    """
    found = find_trainer(name)
    if getattr(found, PRETRAINS, None) is not None:
        raise ValueError(f"{name} trains no segmentation. Name a model that learned from labels.")
    return found


def read_descriptions(folder: Path) -> tuple[PlansManager, dict[str, Any]]:
    """Plans and dataset.json of a trained model.

    Raises:
        FileNotFoundError: the folder is missing or is no trained model.
        ValueError: they are damaged.
    """
    plans, dataset_json = _read_json(folder / "plans.json"), _read_json(folder / "dataset.json")
    for name, content, needed in (("plans.json", plans, PLANS_NEED), ("dataset.json", dataset_json, DATASET_NEEDS)):
        missing = [key for key in needed if key not in content]
        if missing:
            raise ValueError(f"{folder / name} lacks {', '.join(missing)}. {COPY}")
    return PlansManager(plans), dataset_json


def check_model(folder: Path, settings: PredictionSettings) -> None:
    """Raises what `read_model` would raise, as far as it can be known without reading the weights."""
    plans, dataset_json = read_descriptions(folder)
    with blaming(folder / "dataset.json", COPY):
        labels = plans.get_label_manager(dataset_json)
    small_components(folder, settings, named_regions(labels))
    for file in checkpoint_files(folder, settings):
        checkpoint = read_checkpoint(file, mapped=True, trusted=True)
        with blaming(folder / "plans.json", COPY):
            trainer_and_configuration(plans, checkpoint, folder)


def trainer_and_configuration(
    plans: PlansManager, checkpoint: Mapping[str, Any], folder: Path
) -> tuple[Any, ConfigurationManager]:
    """The trainer's class and the configuration that a checkpoint names; raises ValueError or NotImplementedError."""
    name = checkpoint["init_args"]["configuration"]
    if name not in plans.available_configurations:
        raise ValueError(f"{folder / 'plans.json'} has no configuration {name}, as the checkpoint has. {COPY}")
    configuration = plans.get_configuration(name)
    if configuration.previous_stage_name is not None:
        raise NotImplementedError(f"Configuration {name} is a cascade: use nnUNetv2_predict.")
    return trainer_class(checkpoint["trainer_name"]), configuration
