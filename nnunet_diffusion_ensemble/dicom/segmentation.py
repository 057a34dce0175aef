"""A label map as DICOM SEG that refers to the images it was made from, by highdicom.

The header of the images goes with it, patient and study included: that is what makes it theirs in an archive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nnunet_diffusion_ensemble import __version__
from nnunet_diffusion_ensemble.dicom.codes import SegmentCode, SegmentCodes
from nnunet_diffusion_ensemble.dicom.pixels import DicomImage
from nnunet_diffusion_ensemble.images.reading import without_prints
from nnunet_diffusion_ensemble.system.atomic import whole_file

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from pydicom.sr.coding import Code

PRODUCT = "nnunet-diffusion-ensemble"
SERIES_NUMBER = 9000  # far from those of scanners
LONGEST_LABEL = 64  # characters of a Segment Label


@dataclass(frozen=True)
class Segment:
    """A part of a label map.

    Attributes:
        name: of the label or region.
        values: those of its voxels.
        codes: what it is.
    """

    name: str
    values: tuple[int, ...]
    codes: SegmentCodes


def write_dicom_segmentation(
    file: Path, labels: np.ndarray, image: DicomImage, segments: Sequence[Segment], model: str
) -> None:
    """Writes a SEG of the binary kind; segments may overlap, and may be empty.

    Args:
        file: whole or not at all.
        labels: (slices, rows, columns), on the grid of the image.
        image: that was segmented.
        segments: in the order of their numbers, from 1.
        model: what made it, for the header.

    Raises:
        ValueError: the label map is of another size.
    """
    import highdicom as hd

    if labels.shape != image.voxels.shape:
        raise ValueError(f"A label map of size {labels.shape} is none of an image of size {image.voxels.shape}.")
    masks = np.stack([np.isin(labels, segment.values) for segment in segments], axis=-1).astype(np.uint8)
    with without_prints():
        segmentation = hd.seg.Segmentation(
            source_images=list(image.case.headers),
            pixel_array=masks if image.case.is_projection else _volume_of(masks, image),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(number, one, model) for number, one in enumerate(segments, start=1)],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=PRODUCT,
            manufacturer_model_name=PRODUCT,
            software_versions=__version__,
            device_serial_number="none",
            series_description=f"{PRODUCT} segmentation",
        )
    with whole_file(file) as temporary:
        segmentation.save_as(temporary)


def _volume_of(masks: np.ndarray, image: DicomImage) -> Any:
    """highdicom's volume of masks (slices, rows, columns, segments)."""
    import highdicom as hd

    affine = np.eye(4)
    affine[:3, :3] = (image.geometry.directions * image.geometry.spacing_mm)[:, ::-1]  # slices, rows, columns
    affine[:3, 3] = image.geometry.origin_mm
    return hd.Volume(
        masks,
        affine,
        coordinate_system=hd.CoordinateSystemNames.PATIENT,
        frame_of_reference_uid=image.case.headers[0].FrameOfReferenceUID,
        channels={"SegmentNumber": list(range(1, masks.shape[-1] + 1))},
    )


def _described(number: int, segment: Segment, model: str) -> "SegmentDescription":
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:LONGEST_LABEL],
        segmented_property_category=_code(segment.codes.category),
        segmented_property_type=_code(segment.codes.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=model, version=__version__, family=codes.DCM.ArtificialIntelligence, source=PRODUCT
        ),
        tracking_uid=hd.UID(),
        tracking_id=segment.name[:LONGEST_LABEL],
    )


def _code(code: SegmentCode) -> "Code":
    from pydicom.sr.coding import Code

    return Code(code.value, code.scheme, code.meaning)


def segments_of(regions: Mapping[str, Sequence[int]], codes: Mapping[str, SegmentCodes]) -> list[Segment]:
    """A segment for each label or region but the background.

    Args:
        regions: names with the values of their voxels.
        codes: of each name.
    """
    return [Segment(name, tuple(values), codes[name]) for name, values in regions.items() if set(values) != {0}]
