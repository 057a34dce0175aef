"""Labelled and unlabelled preprocessed cases as one data set of nnU-Net's loader."""

from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetBaseDataset

from nnunet_diffusion_ensemble.data.image_dataset import NonzeroMask
from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset

PLACES = 100  # in a case, that a patch may be centred on where nnU-Net looks for annotated pixels


class LabelledAndUnlabelled(nnUNetBaseDataset):
    """Cases with their labels, and cases without, whose labels are all background.

    Args:
        labelled_folder: preprocessed folder of the configuration.
        unlabelled: the unlabelled cases.
        identifiers: cases of both; a case that is listed twice is drawn twice as often.
        labels: all labels, as nnU-Net's `LabelManager` lists them.
    """

    def __init__(
        self,
        labelled_folder: str,
        unlabelled: UnlabelledDataset,
        identifiers: list[str],
        labels: list[int],
    ) -> None:
        super().__init__(labelled_folder, identifiers)
        self.identifiers: np.ndarray = np.array(self.identifiers, dtype=np.str_)  # drawn from for every batch
        self._annotated = (-1, *labels)  # nnU-Net's key for pixels that are not ignored
        self._labelled = infer_dataset_class(labelled_folder)(labelled_folder, [])
        self._unlabelled = unlabelled

    def load_case(self, identifier: str) -> tuple[Any, Any, None, dict]:
        """Image (channels, *space), labels (1, *space), None for the stage before, and properties."""
        if identifier not in self._unlabelled:
            return self._labelled.load_case(identifier)
        data, segmentation, _, properties = self._unlabelled.load_case(identifier)
        size = segmentation.shape[1:]
        places = np.stack([np.zeros(PLACES, int), *(np.random.randint(0, n, PLACES) for n in size)], axis=1)
        return data, NonzeroMask(segmentation), None, {**properties, "class_locations": {self._annotated: places}}

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        return infer_dataset_class(folder).get_identifiers(folder)

    @staticmethod
    def save_case(data: np.ndarray, seg: np.ndarray, properties: dict, output_filename_truncated: str) -> None:
        raise NotImplementedError("Cases are written by nnU-Net's own data sets.")
