"""Every command of the how-to pages and of the README is run: here, on small images, or by tests named in tables."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Mapping
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import in_one_process
import numpy as np
import pytest
import torch
from documented import DOCS, REPOSITORY, blocks, commands, is_there
from how_to_commands import (
    ADDED,
    COMPARING,
    DATA,
    ELSEWHERE,
    GIVING_AWAY,
    HERE,
    MODEL,
    NOT_RUN,
    OF_XRAYS,
    PLANNED,
    PLANNING,
    PLANS,
    RESULTS,
    SERVING,
    SMALLER,
    STUDENTS,
    TRAINING,
    USING,
)
from nnunet_commands import ENSEMBLE, FEW_SAMPLES, PRETRAIN, change_plans
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from png_folders import write_png_folders

from nnunet_diffusion_ensemble.nnunet.register import EXTERNAL_VARIABLE
from nnunet_diffusion_ensemble.self_training import work
from nnunet_diffusion_ensemble.system import child_processes
from nnunet_diffusion_ensemble.training.log import HeldOutLossLogger

PAGES = [*sorted((DOCS / "how-to").glob("*.md")), REPOSITORY / "README.md"]
# Plans of a network that learns in seconds what a bright rectangle is.
TINY = (
    "--base-features 4 --blocks-per-stage 1 --batch-size 4 --timesteps 1 50 --hidden-features 8 --epochs 1 "
    "--iterations 30 --learning-rate 0.01 --pretraining-epochs 1 --pretraining-iterations 4 --pretraining-batch-size 2 "
    "--mirror-axes -1"
)
DOMAINS = """\
domains:
  - {name: here, role: source, images: NEW_HOSPITAL, references: references/NEW_HOSPITAL}
  - {name: there, role: target, images: NEW, references: references/NEW}
metrics: [Dice, ECE]
device: cpu
num_processes: 1
"""
SPEC = f"output: RESULTS\nmodels:\n  - {{name: TEDM, folder: {MODEL}, folds: [0]}}\n{DOMAINS}"
TRUST = f"""\
output: trust
models:
  - name: calibrated
    folder: $nnUNet_results/Dataset064_Lungs/{ENSEMBLE}__S12__2d
    seeds: {{0: [2]}}
    calibrated: true
{DOMAINS.replace("images: ", "images: ../").replace("references: ", "references: ../")}"""


def test_every_command_is_in_a_table_and_nothing_else() -> None:
    found = {command for page in PAGES for command in commands(page)}
    listed = [*ELSEWHERE.values(), *(commands for _, commands in NOT_RUN.values())]
    assert found == {*HERE, *(command for some in listed for command in some)}


@pytest.mark.parametrize("place", [*ELSEWHERE, *(place for place, _ in NOT_RUN.values())])
def test_a_test_that_a_table_names_is_there(place: str) -> None:
    assert is_there(place)


def test_what_makes_commands_smaller_is_in_one() -> None:
    for text in SMALLER:
        assert any(text in command for command in HERE), text


# ---- running them


def as_run(command: str) -> list[str]:
    """The words of a page's command on small data, in this process."""
    for text, other in SMALLER.items():
        command = command.replace(text, other)
    added = [options for pattern, options in ADDED.items() if re.match(pattern, command)]
    return shlex.split(" ".join([command, *added]))  # of an option that is there already the last one counts


def run_all(table: Mapping[str, str | None]) -> None:
    """Runs a table's commands in the working directory; each must write its file, or write it anew."""
    for command, name in table.items():
        before = written_at(name)
        in_one_process.run(as_run(command))
        assert name is None or written_at(name) > before, command


def written_at(name: str | None) -> int:
    file = Path(name or "")
    return file.stat().st_mtime_ns if file.exists() else 0


def raw_folder(dataset: str) -> Path:
    """A raw data set of the images in the working directory, by the command that the README names."""
    words = as_run("nnunet-diffusion convert Dataset001_Lungs --images DIR --masks DIR --unlabelled DIR")
    in_one_process.run([word.replace(DATA, dataset) for word in words])
    return Path("nnUNet_raw", dataset)


def link(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(file.absolute())


def without_picture(logger: Any, folder: str) -> None:
    """Instead of drawing progress.png, which takes seconds."""
    Path(folder, "progress.png").touch()


def train_shortly(patch: pytest.MonkeyPatch) -> None:
    """One iteration, where plans do not say how many, and one in each validation."""
    make, initialise = nnUNetTrainer.__init__, nnUNetTrainer.initialize

    @wraps(make)  # nnU-Net looks at its arguments
    def make_short(trainer: Any, *arguments: Any, **options: Any) -> None:
        make(trainer, *arguments, **options)
        trainer.num_epochs = trainer.num_iterations_per_epoch = 1  # ours take theirs from the plans

    def initialise_short(trainer: Any) -> None:
        trainer.num_val_iterations_per_epoch = 1
        initialise(trainer)

    patch.setattr(nnUNetTrainer, "__init__", make_short)
    patch.setattr(nnUNetTrainer, "initialize", initialise_short)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: images with masks and without; trainings end at once, and are not child processes."""
    in_one_process.nnunets_folders(tmp_path, monkeypatch)
    torch.manual_seed(0)
    np.random.seed(0)  # of nnU-Net's batches: whether the model has learnt what it is shown is no matter of chance
    train_shortly(monkeypatch)
    for logger in (LocalLogger, HeldOutLossLogger):
        monkeypatch.setattr(logger, "plot_progress_png", without_picture)
    for module in (child_processes, work):
        monkeypatch.setattr(
            module,
            "run_jobs",
            lambda jobs, *_: [in_one_process.run([job.command.program, *job.command.arguments]) for job in jobs],
        )
    return tmp_path


def new_hospital(raw: Path) -> None:
    """Images as they are named on the pages, with references, of cases with which no head is trained."""
    for name, case in (("NEW_HOSPITAL", 0), ("NEW", 1), ("IMAGES", 2)):
        link(raw / "imagesTr" / f"case_{case}_0000.png", Path(name, "new_0000.png"))
        link(raw / "labelsTr" / f"case_{case}.png", Path("references", name, "new.png"))


def plan_tiny(name: str, options: str = "") -> None:
    in_one_process.run(shlex.split(f"nnunet-diffusion plan -d 1 -p {name} {TINY} {options} -np 1"))
    change_plans(Path(PLANNED).with_name(f"{name}.json"), name, FEW_SAMPLES)


def own_trainer(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The trainer of the page about trainers of one's own, where nnU-Net finds it; of one epoch."""
    source = blocks(DOCS / "how-to" / "extending.md", "python")[0]
    (folder / "my_trainers").mkdir()
    (folder / "my_trainers" / "early_timesteps_trainer.py").write_text(source.replace('epochs": 20', 'epochs": 1'))
    folders = (os.environ[EXTERNAL_VARIABLE], str(folder / "my_trainers"))
    patch.setenv(EXTERNAL_VARIABLE, os.pathsep.join(folders))


@pytest.mark.slow
def test_from_folders_of_images_to_a_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_png_folders(folder, num_labelled=12)
    run_all(PLANNING)
    raw = Path("nnUNet_raw", DATA)
    splits = [{"train": [f"case_{i}", f"case_{i + 2}"], "val": ["case_11"]} for i in (4, 5)]
    (raw / "splits_final.json").write_text(json.dumps(splits))
    raw_folder("Dataset002_Lungs")
    new_hospital(raw)
    own_trainer(folder, monkeypatch)
    Path("CHECKPOINT").symlink_to(f"{RESULTS}/{PRETRAIN}__{PLANS}__2d/fold_all/checkpoint_final.pth")
    plan_tiny(PLANS)
    run_all(TRAINING)
    run_all(USING)
    shutil.rmtree("OUT")
    run_all(STUDENTS)
    run_all(GIVING_AWAY)
    plan_tiny(PLANS, "--iterations 2")
    plan_tiny("nnUNetResEncUNetMPlans")
    in_one_process.run(as_run("nnunet-diffusion preprocess -d 1 -c 2d -p nnUNetResEncUNetMPlans"))
    Path("SPEC.yaml").write_text(SPEC)
    Path("domains.yaml").write_text(DOMAINS)
    run_all(COMPARING)


@pytest.mark.slow
def test_the_measurements_on_xrays(folder: Path) -> None:
    write_png_folders(folder, num_labelled=15)
    raw = raw_folder("Dataset064_Lungs")
    new_hospital(raw)
    order = [f"case_{i}" for i in range(2, 8)]
    splits = [{"train": order[:n], "val": ["case_14"]} for n in (1, 3, 6)]
    (raw / "splits_final.json").write_text(json.dumps(splits))
    for name, content in {
        "DATA/few_label_splits.json": json.dumps({"seeds": {"0": {"train_order": order}}}),
        "WORK/trust.yaml": TRUST,
    }.items():
        Path(name).parent.mkdir()
        Path(name).write_text(content)
    run_all(OF_XRAYS)


@pytest.mark.slow
@pytest.mark.parametrize("command", SERVING)
def test_the_page_is_served(command: str, model_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio", reason="needs gradio, of the app extra")
    model_folder(name="RESULTS_FOLDER")
    monkeypatch.chdir(tmp_path)
    launch, seen = gradio.Blocks.launch, []

    def launch_and_look(page: Any, **options: Any) -> None:
        _, address, _ = launch(page, **options, prevent_thread_lock=True)
        with urlopen(address) as answer:
            seen.append(answer.status)
        page.close()

    monkeypatch.setattr(gradio.Blocks, "launch", launch_and_look)
    in_one_process.run(as_run(command))
    assert seen == [200]
