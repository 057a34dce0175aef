"""The trained models of a benchmark: found, readable, and of one data set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.benchmark.problems import Problem
from nnunet_diffusion_ensemble.benchmark.spec import BenchmarkSpec, ModelSpec
from nnunet_diffusion_ensemble.prediction.calibrated import CalibrationUse, usable_calibration
from nnunet_diffusion_ensemble.prediction.folder import PredictionFolder
from nnunet_diffusion_ensemble.prediction.model_folder import (
    check_model,
    checkpoint_files,
    model_files,
    read_descriptions,
)
from nnunet_diffusion_ensemble.prediction.settings import PredictionSettings
from nnunet_diffusion_ensemble.system.messages import in_one_line


@dataclass(frozen=True)
class Run:
    """One training of a model: a seed.

    Attributes:
        model: as specified.
        seed: as specified.
        settings: how it predicts.
        plans: of the model.
        dataset_json: of the model.
        use: its calibration, if it is to be used.
    """

    model: ModelSpec
    seed: int
    settings: PredictionSettings
    plans: PlansManager
    dataset_json: Mapping[str, Any]
    use: CalibrationUse | None = None

    @property
    def title(self) -> str:
        return f"{self.model.title}, seed {self.seed}"

    @property
    def files(self) -> list[Path]:
        """All that its predictions depend on."""
        of_calibration = [] if self.use is None else [self.use.file]
        return [*model_files(self.model.folder, self.settings), *of_calibration]

    def reader_writer(self) -> BaseReaderWriter:
        """nnU-Net's reader and writer of images, a new one."""
        return self.plans.image_reader_writer_class()


def check_models(spec: BenchmarkSpec) -> tuple[list[Run], list[Problem]]:
    """The trainings that can be tested, and what is wrong with others. Weights are not read.

    The first model whose plans can be read decides which data set the benchmark is about.
    """
    runs: list[Run] = []
    problems: list[Problem] = []
    for model in spec.models:
        for seed, folds in model.seeds.items():
            settings = PredictionSettings(
                folds=folds,
                checkpoint_name=model.checkpoint,
                tile_step_size=spec.tile_step_size,
                use_mirroring=spec.mirroring,
                postprocessed=model.postprocessed,
                device=spec.device,
            )
            run = _checked(model, seed, settings)
            if isinstance(run, Run):
                run = _of_the_same_data(run, runs[0]) if runs else run
            runs += [run] if isinstance(run, Run) else []
            problems += [run] if isinstance(run, Problem) else []
    return runs, problems


def _checked(model: ModelSpec, seed: int, settings: PredictionSettings) -> Run | Problem:
    try:
        plans, dataset_json = read_descriptions(model.folder)
        checkpoint_files(model.folder, settings)
        use = usable_calibration(model.folder, settings, tempers=True)[0] if model.calibrated else None
        run = Run(model, seed, settings, plans, dataset_json, use)
        PredictionFolder(Path(), dataset_json["file_ending"], run.reader_writer())
    except Exception as error:  # damaged plans raise errors of any kind
        return _problem(model, seed, error)
    return run


def what_hinders(run: Run) -> Problem | None:
    """What is wrong with checkpoints or trainer of a training that is to predict. Weights are not read."""
    try:
        check_model(run.model.folder, run.settings)
    except Exception as error:  # damaged checkpoints raise errors of any kind
        return _problem(run.model, run.seed, error)
    return None


def _problem(model: ModelSpec, seed: int, error: Exception) -> Problem:
    return Problem(f"{where(model, seed)}: {in_one_line(error)}", model=model.name)


def _of_the_same_data(run: Run, first: Run) -> Run | Problem:
    own, others = dict(_data(run.dataset_json)), dict(_data(first.dataset_json))
    for what, value in own.items():
        if value != others[what]:
            text = f"a model of another data set: its {what} are {value}, those of {first.title} {others[what]}"
            return Problem(f"{where(run.model, run.seed)}: {text}", model=run.model.name)
    return run


def _data(dataset_json: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the models of a benchmark must share, in words."""
    labels = dataset_json["labels"].items()
    yield "labels", ", ".join(f"{name} = {value}" for name, value in sorted(labels, key=lambda item: str(item[1])))
    channels = dataset_json.get("channel_names", dataset_json.get("modality", {}))
    yield "channels", ", ".join(channels.values()) if len(channels) > 1 else f"{len(channels)} of any name"
    yield "names of files", f"CASE{dataset_json['file_ending']}"


def where(model: ModelSpec, seed: int) -> str:
    """Tells a training from others of its model, for a problem's text."""
    cases = "" if model.labelled_cases is None else f"{model.labelled_cases} labelled case(s), "
    return f"{cases}seed {seed}"
