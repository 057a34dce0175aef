"""What planning and preprocessing left of a data set, or the command that is missing."""

from pathlib import Path

from nnunet_diffusion_ensemble.system.records import read_record


def plans_that_are_there(preprocessed_dataset_folder: Path) -> str:
    """The end of a sentence that names the plans of a data set, if there are any."""
    files = sorted(preprocessed_dataset_folder.glob("*.json"))
    names = [file.stem for file in files if "configurations" in (read_record(file) or {})]
    return f", or name those that are there: -p {' or -p '.join(names)}" if names else ""


def refuse_unpreprocessed(folder: Path, configuration: str, plans_name: str) -> None:
    """Checks that there is something to train on.

    Args:
        folder: of the preprocessed cases of a configuration.
        configuration: e.g. `2d`.
        plans_name: name of the plans.

    Raises:
        FileNotFoundError: it holds no case; the message says the command that makes them.
    """
    if not any(any(folder.glob(pattern)) for pattern in ("*.pkl", "*.tar")):  # loose cases, shards
        raise FileNotFoundError(
            f"{folder} holds no preprocessed case. Make them with: nnunet-diffusion preprocess -d "
            f"{folder.parent.name[7:10].lstrip('0') or '0'} -c {configuration} -p {plans_name}"
        )
