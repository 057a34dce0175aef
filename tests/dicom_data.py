"""DICOM files that tests make: an oblique series of CT with known values, and X-rays."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENT = "Doe^Jane"
# A rotation about the long axis by 30 degrees, then about the first by 20: no axis is one of the patient's.
COS, SIN = np.cos(np.deg2rad(30)), np.sin(np.deg2rad(30))
TILT_COS, TILT_SIN = np.cos(np.deg2rad(20)), np.sin(np.deg2rad(20))
ALONG_COLUMNS = np.array([COS, SIN, 0.0])  # from one column to the next
ALONG_ROWS = np.array([-SIN * TILT_COS, COS * TILT_COS, TILT_SIN])
NORMAL = np.cross(ALONG_COLUMNS, ALONG_ROWS)
FIRST_MM = np.array([-30.0, 12.5, 40.0])
STEP_MM, ROW_MM, COLUMN_MM = 4.0, 1.5, 0.8
SERIES = generate_uid(entropy_srcs=["series"])


def basic(pixels: np.ndarray, kind: str, modality: str, **values: Any) -> Dataset:
    """A file of one image, to be changed and saved."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = kind
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = PATIENT, "MRN-4711", modality
    dataset.PatientBirthDate = dataset.PatientSex = dataset.StudyID = dataset.AccessionNumber = ""
    dataset.StudyDate = dataset.StudyTime = dataset.ReferringPhysicianName = ""
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["study"]), SERIES
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.astype(f"{pixels.dtype.kind}2").tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def save(dataset: Dataset, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(file, dataset, enforce_file_format=True)
    return file


def stored_values(shape: tuple[int, int, int] = (5, 7, 6)) -> np.ndarray:
    """(slices, rows, columns), every voxel another."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def oblique_slices(values: np.ndarray | None = None) -> list[Dataset]:
    """CT whose Hounsfield units are 2 x stored - 1000."""
    values = stored_values() if values is None else values
    orientation = [*ALONG_COLUMNS, *ALONG_ROWS]
    frame = generate_uid(entropy_srcs=["frame"])
    return [
        basic(
            one,
            CTImageStorage,
            "CT",
            FrameOfReferenceUID=frame,
            PositionReferenceIndicator="",
            ImageOrientationPatient=[f"{number:.12f}" for number in orientation],
            ImagePositionPatient=[f"{number:.10f}" for number in FIRST_MM + position * STEP_MM * NORMAL],
            PixelSpacing=[ROW_MM, COLUMN_MM],
            SliceThickness=STEP_MM,
            RescaleSlope=2,
            RescaleIntercept=-1000,
            WindowCenter=40,
            WindowWidth=400,
            InstanceNumber=position + 1,
        )
        for position, one in enumerate(values)
    ]


def save_series(folder: Path, slices: list[Dataset] | None = None) -> Path:
    """In files whose names are in another order than the slices."""
    slices = oblique_slices() if slices is None else slices
    for position, dataset in enumerate(slices):
        save(dataset, folder / f"IM{(3 * position + 1) % max(len(slices), 1)}{position:02d}")
    return folder


def xray(pixels: np.ndarray | None = None, **values: Any) -> Dataset:
    """12 bits in MONOCHROME2 with a spacing at the detector."""
    pixels = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16) if pixels is None else pixels
    given = {"BitsStored": 12, "HighBit": 11, "ImagerPixelSpacing": [0.2, 0.1]} | values
    return basic(pixels, ComputedRadiographyImageStorage, "CR", **given)
