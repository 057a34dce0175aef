"""Labelled and unlabelled preprocessed cases as one pool of images, for pretraining in nnU-Net's data loader."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetBaseDataset, nnUNetDatasetBlosc2

from nnunet_diffusion_ensemble.data.unlabelled_dataset import UnlabelledDataset


class NonzeroMask:
    """A segmentation with its labels taken away: -1 outside the nonzero region, 0 inside.

    Read only where it is indexed, so that a patch of a large volume costs no more than a patch.
    """

    def __init__(self, segmentation: Any) -> None:
        self._segmentation = segmentation
        self.shape: tuple[int, ...] = tuple(segmentation.shape)
        self.ndim = len(self.shape)
        self.dtype = segmentation.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.minimum(np.asarray(self._segmentation[index]), 0)


class ImageDataset(nnUNetBaseDataset):
    """Images of labelled and unlabelled cases, without labels.

    Labelled cases may be stored in either of nnU-Net's formats. Set the data loader's `has_ignore` to False and its
    share of foreground patches to 0: there are no annotated voxels to look for.

    Args:
        labelled_folder: preprocessed folder of the configuration.
        labelled_identifiers: its cases to use; the folder is not looked at if there are none.
        unlabelled: the unlabelled cases.
        unlabelled_identifiers: those of them to use.

    Attributes:
        identifiers: the names of all cases to use, sorted, (cases,).

    Raises:
        ValueError: a case is named twice.
    """

    def __init__(
        self,
        labelled_folder: str,
        labelled_identifiers: Sequence[str],
        unlabelled: UnlabelledDataset,
        unlabelled_identifiers: Sequence[str] | np.ndarray,
    ) -> None:
        super().__init__(labelled_folder, [])
        both = (np.asarray(names, np.str_) for names in (labelled_identifiers, unlabelled_identifiers))
        # An array, since the data loader draws from it for every batch; NumPy would copy a list each time.
        self.identifiers: np.ndarray = np.sort(np.concatenate([*both]))
        twice = np.unique(self.identifiers[1:][self.identifiers[1:] == self.identifiers[:-1]])
        if len(twice):
            raise ValueError(f"A case can be in the pool of images once, twice are: {', '.join(twice)}. Rename one.")
        self._labelled_identifiers = frozenset(labelled_identifiers)
        self._labelled: nnUNetBaseDataset | None = None
        if labelled_identifiers:
            self._labelled = infer_dataset_class(labelled_folder)(labelled_folder, list(labelled_identifiers))
        self._unlabelled = unlabelled

    def load_case(self, identifier: str) -> tuple[Any, NonzeroMask, None, dict]:
        """Opens a case.

        Returns:
            The image, lazily read, of shape (channels, *space); the mask of shape (1, *space), -1 outside the nonzero
            region and 0 inside; None, as there is no previous stage; the properties, without class locations.
        """
        is_labelled = identifier in self._labelled_identifiers
        dataset = self._labelled if self._labelled and is_labelled else self._unlabelled
        data, segmentation, _, properties = dataset.load_case(identifier)
        return data, NonzeroMask(segmentation), None, {**properties, "class_locations": {}}

    @staticmethod
    def get_identifiers(folder: str) -> list[str]:
        """All preprocessed cases of a folder of labelled ones."""
        return infer_dataset_class(folder).get_identifiers(folder)

    @staticmethod
    def save_case(
        data: np.ndarray, seg: np.ndarray, properties: dict, output_filename_truncated: str, **storage: Any
    ) -> None:
        """Writes a case in nnU-Net's blosc2 format; `storage` as for `nnUNetDatasetBlosc2.save_case`."""
        nnUNetDatasetBlosc2.save_case(data, seg, properties, output_filename_truncated, **storage)
