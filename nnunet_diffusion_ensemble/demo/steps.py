"""The steps of `nnunet-diffusion demo`, from folders of PNGs to the report: commands that a user could type."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import yaml

from nnunet_diffusion_ensemble.demo.hospitals import LABELLED, SOURCE, TARGET, lay_out_sample, sample_split
from nnunet_diffusion_ensemble.demo.results import write_results
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.child_processes import Command, FileProgress, Progress, TrainingProgress

LUNGS, PLANS = "Dataset001_Lungs", "nnUNetDiffusionEnsemblePlans"
DENOISER, DENOISER_SIZE_PX = "chest-xray-64", 64  # ships with the package
OURS, STOCK = "DiffusionEnsembleTrainer", "nnUNetTrainer"
IN_ONE_PROCESS = "-np 1"  # a further one takes longer to start than ten X-rays take
SPEC, BENCHMARK = "benchmark.yaml", "benchmark"
REPORT = f"{BENCHMARK}/report/report.html"


@dataclass(frozen=True)
class DemoOptions:
    """Sizes of the demo; the defaults are small enough for a CPU.

    `pretrain`: whether it pretrains a denoiser of its own; otherwise it takes the one that ships with the package, for
    smaller images. `minutes`: of each of the two trainings. `iterations`: of an epoch in them.
    """

    pretrain: bool = False
    base_features: int = 16
    pretraining_epochs: int = 20
    pretraining_iterations: int = 50
    pretraining_batch_size: int = 8
    pretraining_learning_rate: float = 1e-3
    minutes: float = 3.0
    iterations: int = 50
    batch_size: int = 4
    unlabelled_images: int = 120
    cases_per_hospital: int = 40


QUICK = DemoOptions(minutes=0.25, iterations=40, cases_per_hospital=10)


@dataclass(frozen=True)
class Step:
    """One numbered step: what it runs, and the files or folders that are there when it is done.

    `at_once`: names of the commands, if they run at the same time.
    """

    name: str
    title: str
    commands: tuple[Command, ...]
    results: tuple[str, ...]
    progress: Callable[[], Progress] = Progress
    at_once: tuple[str, ...] = ()
    before: Callable[[], None] = field(default=lambda: None)
    after: Callable[[], None] = field(default=lambda: None)


def write_split(folder: Path) -> None:
    """nnU-Net's splits_final.json with fold 0: the sample's six training cases, and four for validation."""
    split = sample_split()
    fold = {part: split[part] for part in ("train", "val")}
    write_text(folder / "nnUNet_preprocessed" / LUNGS / "splits_final.json", json.dumps([fold], indent=2))


def write_specification(folder: Path, device: str) -> None:
    """The specification of the benchmark, as a user would write it."""
    models = [
        {
            "name": trainer,
            "folder": trained_model(trainer),
            "folds": [0],
            "labelled_cases": len(sample_split()["train"]),
        }
        for trainer in (OURS, STOCK)
    ]
    domains = [
        {"name": one.title, "role": one.role, "images": f"{one.raw}/imagesTr", "references": f"{one.raw}/labelsTr"}
        for one in (SOURCE, TARGET)
    ]
    content = {"output": BENCHMARK, "models": models, "domains": domains, "unit": "px", "device": device}
    write_text(folder / SPEC, yaml.safe_dump(content, sort_keys=False).rstrip())


def _command(line: str, *more: object) -> Command:
    program, *arguments = line.split()
    return Command(program, (*arguments, *map(str, more)))


def _convert(options: DemoOptions, dataset: str, folder: str, *more: str) -> Command:
    labelled = f"--images xrays/{folder}/images --masks xrays/{folder}/masks --labels lung=255"
    size = [] if options.pretrain else ["--resize", DENOISER_SIZE_PX, DENOISER_SIZE_PX]
    return _command(f"nnunet-diffusion convert {dataset} {labelled}", *more, *size, "--overwrite")


def _plan(options: DemoOptions) -> Command:
    line = f"nnunet-diffusion plan -d 1 {IN_ONE_PROCESS} --clean --mirror-axes -1"
    names = ["batch_size"]
    if options.pretrain:
        line += " --blocks-per-stage 1"
        names += ["base_features", *(name for name in asdict(options) if name.startswith("pretraining_"))]
    else:
        line += f" --denoiser {DENOISER}"
    return _command(line, *(part for name in names for part in (_option(name), getattr(options, name))))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def trained_model(trainer: str) -> str:
    """Where nnU-Net trains it, in the demo's folder."""
    return f"nnUNet_results/{LUNGS}/{trainer}__{PLANS}__2d"


def _train(folder: Path, command: str, trainer: str, fold: str, device: str, *more: object) -> Command:
    """A training, continued if it was begun."""
    begun = any((folder / trained_model(trainer) / f"fold_{fold}").glob("checkpoint_*.pth"))
    line = f"{command} 1 2d {fold} -tr {trainer} -p {PLANS} -device {device}"
    return _command(line, *more, *(["--c"] if begun else []))


def _training_step(folder: Path, options: DemoOptions, device: str) -> Step:
    """Both trainings at the same time, so that whatever else the machine does slows both."""
    length = ("--minutes", f"{options.minutes:g}", "--iterations-per-epoch", options.iterations)
    trainers = (OURS, STOCK)
    return Step(
        "training",
        f"Train both on {len(sample_split()['train'])} labelled X-rays of Montgomery for {options.minutes:g} min",
        tuple(_train(folder, "nnunet-diffusion train", trainer, "0", device, *length) for trainer in trainers),
        tuple(f"{trained_model(trainer)}/fold_0/validation/summary.json" for trainer in trainers),
        TrainingProgress,
        trainers,
    )


def steps(folder: Path, options: DemoOptions, device: Callable[[], str]) -> Iterator[Step]:
    """The steps in order; each is made when its turn comes, since what it runs depends on what is there then.

    `device` says what is trained on, and is asked when it is time to train.
    """
    num_unlabelled = options.unlabelled_images if options.pretrain else 0
    yield Step(
        "data",
        "Turn folders of X-rays into nnU-Net data sets",
        (
            _convert(options, LUNGS, LABELLED, *(["--unlabelled", "xrays/nih"] if options.pretrain else [])),
            _convert(options, SOURCE.dataset, SOURCE.name),
            _convert(options, TARGET.dataset, TARGET.name),
        ),
        (TARGET.raw,),
        before=partial(lay_out_sample, folder, options.cases_per_hospital, num_unlabelled),
    )
    plans_file = f"nnUNet_preprocessed/{LUNGS}/{PLANS}.json"
    yield Step("plan", "Plan: network, patch, and every setting of the method", (_plan(options),), (plans_file,))
    yield Step(
        "preprocessing",
        "Preprocess the X-rays",
        (_command(f"nnunet-diffusion preprocess -d 1 -c 2d -p {PLANS} {IN_ONE_PROCESS} --no-verify"),),
        (f"nnUNet_preprocessed/{LUNGS}/splits_final.json",),
        after=partial(write_split, folder),
    )
    if options.pretrain:
        yield Step(
            "pretraining",
            f"Pretrain the denoiser on {options.unlabelled_images + 10} X-rays, without labels",
            (_train(folder, "nnUNetv2_train", "DiffusionPretrainTrainer", "all", device()),),
            (f"{trained_model('DiffusionPretrainTrainer')}/fold_all/checkpoint_final.pth",),
            partial(TrainingProgress, options.pretraining_epochs),
        )
    yield _training_step(folder, options, device())
    yield _benchmark_step(folder, device())
    yield Step("report", "Write the report", (_command(f"nnunet-diffusion report {BENCHMARK}"),), (REPORT,))


def _benchmark_step(folder: Path, device: str) -> Step:
    num_cases = sum(len(list((folder / one.raw / "imagesTr").glob("*.png"))) for one in (SOURCE, TARGET))
    return Step(
        "benchmark",
        "Test both on X-rays of Montgomery that they have not seen, and on those of Shenzhen",
        (_command(f"nnunet-diffusion benchmark {SPEC}"),),
        ("summary.json",),
        partial(FileProgress, folder / BENCHMARK / "runs", "*/*/prediction/*.png", 2 * num_cases),
        before=partial(write_specification, folder, device),
        after=partial(write_results, folder, f"nnUNet_raw/{LUNGS}"),
    )
