"""References, domains and specifications for the tests of benchmarks, beside the models of `trained_models.py`."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from trained_models import save_volume

from nnunet_diffusion_ensemble.benchmark import pair as pair_module
from nnunet_diffusion_ensemble.benchmark import runner
from nnunet_diffusion_ensemble.benchmark.progress import BenchmarkProgress
from nnunet_diffusion_ensemble.benchmark.record import RECORD
from nnunet_diffusion_ensemble.benchmark.runner import run_benchmark
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec
from nnunet_diffusion_ensemble.benchmark.work import WORK

SHAPE = (2, 16, 17)


def save_reference(image: Path, reference: Path) -> None:
    """What is brighter than the mean is the organ."""
    volume = sitk.ReadImage(str(image))
    values = sitk.GetArrayFromImage(volume)
    label = sitk.GetImageFromArray((values > values.mean()).astype(np.uint8))
    label.CopyInformation(volume)
    reference.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(label, str(reference))


def make_domain(folder: Path, cases: Sequence[str] = ("case_0", "case_1"), role: str = "target") -> dict[str, Any]:
    """A domain of noise, named as its folder."""
    for seed, case in enumerate(cases):
        image = folder / "images" / f"{case}_0000.nii.gz"
        save_volume(image, seed + len(folder.name), SHAPE)
        save_reference(image, folder / "references" / f"{case}.nii.gz")
    paths = {name: folder / name for name in ("images", "references")}
    return {"name": folder.name, "role": role, **paths}


def make_spec(output: Path, models: Sequence[dict], domains: Sequence[dict], **options: Any) -> BenchmarkSpec:
    """Fast: on the CPU, without mirroring, in one process."""
    fast = {"device": "cpu", "mirroring": False, "tile_step_size": 1.0, "num_processes": 1, "metrics": ("Dice",)}
    return BenchmarkSpec.model_validate({"output": output, "models": models, "domains": domains, **fast, **options})


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """Models that are read and cases that are predicted, from now on."""
    seen: dict[str, list] = {"models": [], "cases": []}

    def read_model(folder: Path, settings: Any) -> Any:
        seen["models"].append((folder.name, settings.folds))
        return original_read(folder, settings)

    def predict_cases(*arguments: Any, **options: Any) -> Iterator[Any]:
        for case in original_predict(*arguments, **options):
            seen["cases"] += [case.scores.case] * case.is_new
            yield case

    original_read, original_predict = runner.read_model, pair_module.predict_cases
    monkeypatch.setattr(runner, "read_model", read_model)
    monkeypatch.setattr(pair_module, "predict_cases", predict_cases)
    return seen


@pytest.fixture
def make_benchmark(model_folder: Callable, tmp_path: Path) -> Callable[..., BenchmarkSpec]:
    """`make_benchmark(seeds, domains, trainer, **spec)`: of one model, by default nnU-Net's, which is fast."""

    def made(
        seeds: Any = None, domains: Any = ("north",), trainer: type = nnUNetTrainer, **options: Any
    ) -> BenchmarkSpec:
        seeds = seeds or {0: (0,)}
        model = model_folder(trainer, folds=sorted({fold for folds in seeds.values() for fold in folds}))
        parts = [make_domain(tmp_path / name) if isinstance(name, str) else name for name in domains]
        return make_spec(tmp_path / "out", [{"name": "TEDM", "folder": model, "seeds": seeds}], parts, **options)

    return made


def with_models(spec: BenchmarkSpec, *models: dict) -> BenchmarkSpec:
    return BenchmarkSpec.model_validate(spec.model_dump() | {"models": models})


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files, without when and where they were made."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != WORK]
    return {str(file.relative_to(folder)): _without_times(file) for file in files}


def _without_times(file: Path) -> bytes:
    if file.name != RECORD:
        return file.read_bytes()
    return json.dumps(json.loads(file.read_text()) | {"work": [], "environments": []}).encode()


def notes_of(spec: BenchmarkSpec) -> list[str]:
    """What a run says about what it does anew."""
    told: list[BenchmarkProgress] = []
    run_benchmark(spec, told.append)
    return [progress.note for progress in told if progress.note]
