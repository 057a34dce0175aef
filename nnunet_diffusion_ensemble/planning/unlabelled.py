"""Plans for a data set that has no label at all, for pretraining on it."""

import contextlib
import io
import json
import logging
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.paths import nnUNet_preprocessed

from nnunet_diffusion_ensemble.data.fingerprint import extract_unlabelled_fingerprint, has_unlabelled_fingerprint
from nnunet_diffusion_ensemble.images.members import as_files
from nnunet_diffusion_ensemble.nnunet.dataset_json import NO_LABELS, refuse_labelled_cases
from nnunet_diffusion_ensemble.nnunet.raw_cases import UNLABELLED_IMAGES, number_of_channels
from nnunet_diffusion_ensemble.nnunet.unlabelled_cases import UnlabelledCases, find_unlabelled_cases
from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner
from nnunet_diffusion_ensemble.system.atomic import write_text

logger = logging.getLogger(__name__)


class UnlabelledPlanner(DiffusionEnsemblePlanner):
    """The usual rules, with the unlabelled images in the place of the labelled cases that nnU-Net counts and reads.

    The copy of `dataset.json` beside the plans has no label but the background.
    """

    needs_labels = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.num_unlabelled = 0  # they are counted as cases

    @property
    def dataset_json(self) -> dict[str, Any]:
        """As nnU-Net's planner must see it; set by its constructor to what the file says."""
        return self._dataset_json

    @dataset_json.setter
    def dataset_json(self, content: dict[str, Any]) -> None:
        self._dataset_json_without_labels = without_labels(content)
        self._cases = find_unlabelled_cases(Path(self.raw_dataset_folder), self._dataset_json_without_labels)
        # nnU-Net lists no files then, and counts by the number.
        counted = {"dataset": {}, "numTraining": len(self._cases)}
        self._dataset_json = {**self._dataset_json_without_labels, **counted}

    def determine_reader_writer(self) -> type[BaseReaderWriter]:
        return _reader(self._dataset_json_without_labels, self._cases)

    def save_plans(self, plans: dict) -> None:
        file = Path(nnUNet_preprocessed) / self.dataset_name / "dataset.json"
        write_text(file, json.dumps(self._dataset_json_without_labels, indent=2))
        super().save_plans(plans)


def without_labels(dataset_json: dict[str, Any]) -> dict[str, Any]:
    """`dataset.json` of the same images without labels."""
    others = {key: value for key, value in dataset_json.items() if key not in ("dataset", "regions_class_order")}
    return {**others, "labels": NO_LABELS, "numTraining": 0}


def unlabelled_fingerprint(
    raw_dataset_folder: Path, dataset_json: dict[str, Any], num_processes: int, clean: bool
) -> None:
    """Extracts the fingerprint of a data set without labels, unless it is there already.

    Args:
        raw_dataset_folder: of the data set.
        dataset_json: as `read_dataset_json` returns it.
        num_processes: workers.
        clean: extract it in any case.

    Raises:
        ValueError: there are labelled cases, no images, misnamed ones or ones that cannot be read.
    """
    refuse_labelled_cases(raw_dataset_folder, dataset_json)
    dataset_json = without_labels(dataset_json)
    cases = find_unlabelled_cases(raw_dataset_folder, dataset_json)
    if not cases:
        raise ValueError(
            f"There are no images in {raw_dataset_folder / UNLABELLED_IMAGES}: put some there, named "
            f"CASE_0000{dataset_json['file_ending']}, or make the data set with nnunet-diffusion convert --unlabelled."
        )
    folder = Path(nnUNet_preprocessed) / raw_dataset_folder.name
    if clean or not has_unlabelled_fingerprint(folder, len(cases)):
        reader = _reader(dataset_json, cases)
        if "ct" in (name.casefold() for name in dataset_json.get("channel_names", {}).values()):
            logger.warning("CT is clipped and scaled by all voxels of the nonzero region, as no organ is labelled.")
        extract_unlabelled_fingerprint(folder, reader, number_of_channels(dataset_json), cases, num_processes)


def _reader(dataset_json: dict[str, Any], cases: UnlabelledCases) -> type[BaseReaderWriter]:
    """nnU-Net's choice for these images, without the stack traces that it prints of readers that do not fit."""
    _, example = next(cases.items())
    with as_files(example) as files, contextlib.redirect_stderr(io.StringIO()):
        return determine_reader_writer_from_dataset_json(dataset_json, str(files[0]), verbose=False)
