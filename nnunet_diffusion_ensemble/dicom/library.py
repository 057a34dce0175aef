"""pydicom, highdicom and stdnum come with an extra: who needs them without having them is told how to get them."""

from importlib.util import find_spec

LIBRARIES = ("pydicom", "highdicom", "stdnum")


def need_dicom_libraries() -> None:
    """Raises RuntimeError with the command that installs them, if they are not there."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f'DICOM needs {" and ".join(missing)}. Install with\n  pip install "nnunet-diffusion-ensemble[dicom]"'
        )
