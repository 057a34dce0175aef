"""`nnunet-diffusion demo`: the whole chain on a sample of real X-rays, in one folder, with nnU-Net's own commands."""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic

from nnunet_diffusion_ensemble.demo.folder import DemoFolder, child_environment, own_variables
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.child_processes import (
    INTERRUPTED,
    Command,
    FileProgress,
    Progress,
    Screen,
    TrainingProgress,
    clock,
    ending_on_signals,
    run_command,
)
from nnunet_diffusion_ensemble.system.guard import alone_at

SAMPLE = Path(__file__).resolve().parent / "sample"
LUNGS, PLANS = "Dataset001_Lungs", "nnUNetDiffusionEnsemblePlans"
LABELLED = "montgomery_labelled"
DENOISER, DENOISER_SIZE_PX = "chest-xray-64", 64  # ships with the package


@dataclass(frozen=True)
class Hospital:
    """Held-out cases of one hospital: folder below `xrays`, nnU-Net data set, and how it is called on the screen."""

    name: str
    dataset: str
    title: str

    @property
    def raw(self) -> str:
        return f"nnUNet_raw/{self.dataset}"

    @property
    def predictions(self) -> str:
        return f"predictions/{self.name}"


SOURCE = Hospital("montgomery_held_out", "Dataset002_MontgomeryHeldOut", "Montgomery, held out")
TARGET = Hospital("shenzhen", "Dataset003_Shenzhen", "Shenzhen, another hospital")


@dataclass(frozen=True)
class DemoOptions:
    """Sizes of the demo; the defaults are small enough for a CPU.

    `pretrain`: whether it pretrains a denoiser of its own; otherwise it takes the one that ships with the package, for
    smaller images.
    """

    pretrain: bool = False
    base_features: int = 16
    pretraining_epochs: int = 20
    pretraining_iterations: int = 50
    pretraining_batch_size: int = 8
    pretraining_learning_rate: float = 1e-3
    epochs: int = 12
    iterations: int = 50
    batch_size: int = 1
    learning_rate: float = 3e-3
    unlabelled_images: int = 120
    cases_per_hospital: int = 40


@dataclass(frozen=True)
class Step:
    """One numbered step: what it runs, and the file or folder that is there when it is done."""

    name: str
    title: str
    commands: tuple[Command, ...]
    result: str
    progress: Callable[[], Progress] = Progress
    before: Callable[[], None] = field(default=lambda: None)
    after: Callable[[], None] = field(default=lambda: None)


# ---- the steps


def _split() -> dict[str, list[str]]:
    return json.loads((SAMPLE / "montgomery" / "split.json").read_text())


def lay_out_sample(folder: Path, options: DemoOptions) -> None:
    """Copies the sample's PNGs to `xrays`, as a user might have them: labelled, unlabelled, and two to predict."""
    xrays, split, most = folder / "xrays", _split(), options.cases_per_hospital
    shutil.rmtree(xrays, ignore_errors=True)
    shenzhen = sorted(path.stem for path in (SAMPLE / "shenzhen" / "images").glob("*.png"))
    for source, name, cases in (
        ("montgomery", LABELLED, split["train"] + split["val"]),
        ("montgomery", SOURCE.name, split["test"][:most]),
        ("shenzhen", TARGET.name, shenzhen[:most]),
    ):
        for part in ("images", "masks"):
            (xrays / name / part).mkdir(parents=True)
            for case in cases:
                shutil.copy(SAMPLE / source / part / f"{case}.png", xrays / name / part)
    if options.pretrain:
        (xrays / "nih").mkdir()
        for path in sorted((SAMPLE / "nih").glob("*.png"))[: options.unlabelled_images]:
            shutil.copy(path, xrays / "nih")
    shutil.copy(SAMPLE / "NOTICE.md", xrays)


def write_split(folder: Path) -> None:
    """nnU-Net's splits_final.json with fold 0: the sample's six training cases, and four for validation."""
    split = _split()
    fold = {part: split[part] for part in ("train", "val")}
    write_text(folder / "nnUNet_preprocessed" / LUNGS / "splits_final.json", json.dumps([fold], indent=2))


def _command(line: str, *more: object) -> Command:
    program, *arguments = line.split()
    return Command(program, (*arguments, *map(str, more)))


def _convert(options: DemoOptions, dataset: str, folder: str, *more: str) -> Command:
    labelled = f"--images xrays/{folder}/images --masks xrays/{folder}/masks --labels lung=255"
    size = [] if options.pretrain else ["--resize", DENOISER_SIZE_PX, DENOISER_SIZE_PX]
    return _command(f"nnunet-diffusion convert {dataset} {labelled}", *more, *size, "--overwrite")


def _plan(options: DemoOptions) -> Command:
    line = "nnunet-diffusion plan -d 1 -np 2 --clean --hidden-features 64 32 --mirror-axes -1"
    names = ["epochs", "iterations", "batch_size", "learning_rate"]
    if options.pretrain:
        line += " --blocks-per-stage 1"
        names += ["base_features", *(name for name in asdict(options) if name.startswith("pretraining_"))]
    else:
        line += f" --denoiser {DENOISER}"
    return _command(line, *(part for name in names for part in (_option(name), getattr(options, name))))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _trained(trainer: str, fold: str) -> str:
    return f"nnUNet_results/{LUNGS}/{trainer}__{PLANS}__2d/fold_{fold}"


def _train(folder: Path, fold: str, trainer: str, device: str) -> Command:
    started = any((folder / _trained(trainer, fold)).glob("checkpoint_*.pth"))
    line = f"nnUNetv2_train 1 2d {fold} -tr {trainer} -p {PLANS} -device {device}"
    return _command(line, *(["--c"] if started else []))


def _prediction_step(folder: Path, hospital: Hospital, device: str) -> Step:
    model = f"-d 1 -c 2d -f 0 -tr DiffusionEnsembleTrainer -p {PLANS}"
    where = f"-i {hospital.raw}/imagesTr -o {hospital.predictions}"
    cases = len(list((folder / hospital.raw / "imagesTr").glob("*.png")))
    return Step(
        f"prediction_{hospital.name}",
        f"Predict {hospital.title}",
        (_command(f"nnUNetv2_predict {model} {where} -npp 0 -nps 0 -device {device}"),),
        hospital.predictions,
        partial(FileProgress, folder / hospital.predictions, "*.png", cases),
    )


def _evaluate(hospital: Hospital) -> Command:
    made = hospital.predictions
    files = f"-djfile {made}/dataset.json -pfile {made}/plans.json -np 1"
    return _command(f"nnUNetv2_evaluate_folder {hospital.raw}/labelsTr {made} {files}")


def steps(folder: Path, options: DemoOptions, device: str) -> Iterator[Step]:
    """The steps in order; each is made when its turn comes, since what it runs depends on what is there then."""
    yield Step(
        "data",
        "Turn folders of X-rays into nnU-Net data sets",
        (
            _convert(options, LUNGS, LABELLED, *(["--unlabelled", "xrays/nih"] if options.pretrain else [])),
            _convert(options, SOURCE.dataset, SOURCE.name),
            _convert(options, TARGET.dataset, TARGET.name),
        ),
        TARGET.raw,
        before=partial(lay_out_sample, folder, options),
    )
    plans_file = f"nnUNet_preprocessed/{LUNGS}/{PLANS}.json"
    yield Step("plan", "Plan: network, patch, and every setting of the method", (_plan(options),), plans_file)
    yield Step(
        "preprocessing",
        "Preprocess labelled and unlabelled X-rays",
        (_command(f"nnunet-diffusion preprocess -d 1 -c 2d -p {PLANS} -np 2"),),
        f"nnUNet_preprocessed/{LUNGS}/splits_final.json",
        after=partial(write_split, folder),
    )
    if options.pretrain:
        yield Step(
            "pretraining",
            f"Pretrain the denoiser on {options.unlabelled_images + 10} X-rays, without labels",
            (_train(folder, "all", "DiffusionPretrainTrainer", device),),
            f"{_trained('DiffusionPretrainTrainer', 'all')}/checkpoint_final.pth",
            partial(TrainingProgress, options.pretraining_epochs),
        )
    yield Step(
        "training",
        "Train the head on 6 labelled cases of Montgomery (4 more for validation)",
        (_train(folder, "0", "DiffusionEnsembleTrainer", device),),
        f"{_trained('DiffusionEnsembleTrainer', '0')}/checkpoint_final.pth",
        partial(TrainingProgress, options.epochs),
    )
    yield _prediction_step(folder, SOURCE, device)
    yield _prediction_step(folder, TARGET, device)
    yield Step(
        "evaluation",
        "Compare with the masks drawn by hand",
        (_evaluate(SOURCE), _evaluate(TARGET)),
        "summary.json",
        after=partial(write_results, folder),
    )


def write_results(folder: Path) -> None:
    """overlay.png, results.txt and summary.json from predictions and evaluation."""
    from nnunet_diffusion_ensemble.data.pixels import read_pixels
    from nnunet_diffusion_ensemble.demo.overlay import OverlayCase, write_overlay
    from nnunet_diffusion_ensemble.demo.scores import read_foreground, score, score_table

    training_masks = [folder / f"nnUNet_raw/{LUNGS}/labelsTr/{case}.png" for case in _split()["train"]]
    scores, groups = [], {}
    for hospital in (SOURCE, TARGET):
        raw, made = folder / hospital.raw, folder / hospital.predictions
        scores.append(score(hospital.title, made / "summary.json", raw / "labelsTr", training_masks))
        groups[hospital.title] = [
            OverlayCase(
                case,
                read_pixels(raw / "imagesTr" / f"{case}_0000.png")[0],
                read_foreground(raw / "labelsTr" / f"{case}.png"),
                read_foreground(made / f"{case}.png"),
                dice,
            )
            for case, dice in scores[-1].dice.items()
        ]
    write_overlay(groups, folder / "overlay.png")
    write_text(folder / "results.txt", score_table(scores))
    write_text(folder / "summary.json", json.dumps({one.hospital: one.to_json() for one in scores}, indent=2))


# ---- the run


def _run_step(step: Step, demo: DemoFolder, screen: Screen) -> None:
    start = monotonic()
    step.before()
    for command in step.commands:
        screen.say(f"  $ {command}")
        log = demo.path / "logs" / f"{step.name}.txt"
        run_command(command, demo.path, child_environment(demo.path, os.environ), log, step.progress(), screen)
    step.after()
    demo.note_done(step.name, monotonic() - start)


def run_demo(path: Path, options: DemoOptions | None = None, screen: Screen | None = None) -> int:
    """Runs the steps that are not done yet; returns the exit status.

    Args:
        path: folder in which everything happens; made if it is not there, continued if a demo made it.
        options: sizes.
        screen: where progress is shown.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: it was made by another version or with other options.
        RuntimeError: a command failed; the message quotes its last lines.
        AtWorkError: another demo runs in this folder.
    """
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with alone_at(path.absolute()):
        return _run_steps(path, options or DemoOptions(), screen or Screen())


def _run_steps(path: Path, options: DemoOptions, screen: Screen) -> int:
    import torch

    demo, device = DemoFolder(path, asdict(options)), "cuda" if torch.cuda.is_available() else "cpu"
    exports = [f"export {name}={shlex.quote(value)}" for name, value in own_variables(demo.path).items()]
    write_text(demo.path / "environment.sh", "\n".join(exports))
    screen.say(f"Demo in {demo.path} on {'the GPU' if device == 'cuda' else 'the CPU'}; if interrupted, run it again.")
    try:
        with ending_on_signals():
            num_steps = len(list(steps(demo.path, options, device)))
            for number, step in enumerate(steps(demo.path, options, device), 1):
                done = demo.is_done(step.name, step.result)
                screen.say(f"[{number}/{num_steps}] {step.title}{': done before' if done else ''}")
                if not done:
                    _run_step(step, demo, screen)
    except KeyboardInterrupt:
        more = " --pretrain" if options.pretrain else ""
        screen.say(f"\nInterrupted. Continue with: nnunet-diffusion demo {shlex.quote(str(demo.path))}{more}")
        return INTERRUPTED
    screen.say(f"\n{(demo.path / 'results.txt').read_text()}")
    screen.say(f"Done in {clock(sum(demo.done_seconds.values()))}. {FAREWELL.format(folder=demo.path)}")
    return 0


FAREWELL = """In {folder}:
  overlay.png      worst, median and best case of both hospitals
  summary.json     Dice of every case
  nnUNet_results   the models; progress.png shows how they were trained
  environment.sh   `source` it there, and the commands above work in your shell
Next, your own images: nnunet-diffusion convert --help"""
