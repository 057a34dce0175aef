"""Versions and hardware as others tell them."""

import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy
import torch

from nnunet_diffusion_ensemble.system.environment import PACKAGE, cpu_name, versions_and_hardware

CPUINFO = "processor\t: 0\nmodel name\t: Some CPU: 3000 @ 2 GHz\nflags\t: a b\n\nprocessor\t: 1\nmodel name\t: Other\n"


def test_versions_are_those_that_are_imported() -> None:
    packages = versions_and_hardware()["packages"]
    assert packages["numpy"] == numpy.__version__ and packages["torch"] == torch.__version__.partition("+")[0]
    assert packages[PACKAGE] == version(PACKAGE)
    assert "gradio" not in packages  # an extra


def test_it_is_json_without_the_name_of_the_machine() -> None:
    found = versions_and_hardware()
    assert json.loads(json.dumps(found)) == found
    assert 1 <= found["cores"] <= (os.cpu_count() or 1)
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_the_processor_is_called_as_its_maker_does(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    assert cpu_name(tmp_path / "cpuinfo") == "Some CPU: 3000 @ 2 GHz"
    assert cpu_name(tmp_path / "none") != ""
