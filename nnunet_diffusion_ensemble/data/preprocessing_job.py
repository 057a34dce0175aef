"""What determines the preprocessed unlabelled images of a configuration, and how one is preprocessed and written."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_diffusion_ensemble.images.members import as_files
from nnunet_diffusion_ensemble.images.reading import FLAT_IN_3D, ImageError, is_flat, read_images, refuse_other_channels
from nnunet_diffusion_ensemble.nnunet.raw_cases import number_of_channels
from nnunet_diffusion_ensemble.system.full_disk import DiskFullError, naming_full_disk
from nnunet_diffusion_ensemble.system.json_files import read_object
from nnunet_diffusion_ensemble.system.messages import in_one_line

# Cases are written here and then moved; it exists as long as the set is not complete.
IN_PROGRESS = "in_progress"
KEYS_THAT_DETERMINE_VALUES = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


@dataclass(frozen=True)
class PreprocessedCase:
    """An image (channels, *space) in float32, its mask (1, *space) in int16, and nnU-Net's properties."""

    image: np.ndarray
    mask: np.ndarray
    properties: dict


@dataclass(frozen=True)
class PreprocessingJob:
    """What a worker needs to preprocess any case."""

    folder: Path
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict
    fingerprint: str

    @classmethod
    def load(cls, dataset_name: str, configuration: str, plans_identifier: str) -> "PreprocessingJob":
        """Of plans in `nnUNet_preprocessed`; FileNotFoundError if there are none."""
        folder = Path(nnUNet_preprocessed) / dataset_name
        plans_file = folder / f"{plans_identifier}.json"
        if not plans_file.is_file():
            raise FileNotFoundError(f"No plans at {plans_file}. Run nnUNetv2_plan_and_preprocess first.")
        plans = PlansManager(read_object(plans_file))
        configuration_manager = plans.get_configuration(configuration)
        return cls(
            folder=unlabelled_folder(folder, configuration_manager.data_identifier),
            plans=plans,
            configuration=configuration_manager,
            dataset_json=read_object(folder / "dataset.json"),
            fingerprint=preprocessing_fingerprint(plans, configuration_manager),
        )

    @property
    def in_progress(self) -> Path:
        return self.folder / IN_PROGRESS

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Around what writes into the folder: tells what could not be written.

        Raises:
            DiskFullError: there is no room.
            RuntimeError: for any other reason.
        """
        try:
            with naming_full_disk(self.folder / what):
                yield
        except DiskFullError:
            raise
        except Exception as error:
            raise RuntimeError(f"Could not write {what} to {self.folder} ({in_one_line(error)}).") from error

    def preprocess(self, images: Sequence[Path]) -> PreprocessedCase:
        """A case, read from its files or from its shard.

        Raises:
            ImageError: it cannot be read or preprocessed.
            ShardError: its shard cannot be used.
        """
        with as_files(images, self.in_progress) as files:
            try:
                return self._run_case(files)
            except ImageError:
                raise
            except Exception as error:  # of preprocessing
                raise ImageError(files, f"cannot be preprocessed ({in_one_line(error)})") from error

    def _run_case(self, images: Sequence[Path]) -> PreprocessedCase:
        """The preprocessor's `run_case` without a segmentation, with the channels counted after reading."""
        data, properties = read_images(self.plans.image_reader_writer_class(), images)
        expected = number_of_channels(self.dataset_json)
        refuse_other_channels(data, images, expected, f"dataset.json has {expected} in channel_names")
        if is_flat(data, properties) and len(self.configuration.spacing) == 3:
            raise ImageError(images, FLAT_IN_3D)
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        data, mask, properties = preprocessor.run_case_npy(
            data, None, properties, self.plans, self.configuration, self.dataset_json
        )
        if not np.isfinite(data).all():
            raise ImageError(images, "give NaN or infinite values in preprocessing")
        return PreprocessedCase(data.astype(np.float32, copy=False), mask.astype(np.int16, copy=False), properties)

    def write(self, case: PreprocessedCase, truncated: str) -> None:
        """Writes a case's three files as the preprocessor's `run_case_save` does."""
        data, mask = case.image, case.mask
        patch_size = tuple(self.configuration.patch_size)
        blocks, chunks = comp_blosc2_params(data.shape, patch_size, data.itemsize)
        blocks_seg, chunks_seg = comp_blosc2_params(mask.shape, patch_size, mask.itemsize)
        layout = {"chunks": chunks, "blocks": blocks, "chunks_seg": chunks_seg, "blocks_seg": blocks_seg}
        nnUNetDatasetBlosc2.save_case(data, mask, case.properties, truncated, **layout)


def unlabelled_folder(preprocessed_dataset_folder: Path, data_identifier: str) -> Path:
    """Where a configuration's preprocessed unlabelled images lie: beside its labelled ones, whose folder nnU-Net
    deletes whenever it preprocesses."""
    return Path(preprocessed_dataset_folder) / f"{data_identifier}_unlabelled"


def preprocessing_fingerprint(plans: PlansManager, configuration: ConfigurationManager) -> str:
    """Identifies everything in the plans that determines preprocessed values."""
    settings = {key: configuration.configuration.get(key) for key in KEYS_THAT_DETERMINE_VALUES}
    settings["transpose_forward"] = plans.transpose_forward
    settings["image_reader_writer"] = plans.plans["image_reader_writer"]
    settings["intensities"] = plans.foreground_intensity_properties_per_channel
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
