"""Without the extra there is a sentence, and only where DICOM is asked for."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.dicom import library
from nnunet_diffusion_ensemble.dicom.cases import find_dicom_cases


def test_a_missing_library_is_told_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "find_spec", lambda name: None if name == "highdicom" else find_spec(name))
    with pytest.raises(RuntimeError, match=r'needs highdicom\. Install with\s+pip install ".*\[dicom\]"'):
        find_dicom_cases(tmp_path)
