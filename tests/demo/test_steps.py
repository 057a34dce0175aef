"""The demo's steps without what they run: the sample, and the commands."""

from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.demo.hospitals import lay_out_sample
from nnunet_diffusion_ensemble.demo.steps import LUNGS, OURS, SPEC, STOCK, DemoOptions, steps, write_specification


@pytest.mark.parametrize("num_unlabelled", [0, 120])
def test_the_sample_is_laid_out_without_a_case_in_two_places(tmp_path: Path, num_unlabelled: int) -> None:
    lay_out_sample(tmp_path, 40, num_unlabelled)
    names = {
        f: {p.name for p in (tmp_path / "xrays" / f / "images").iterdir()}
        for f in ("montgomery_labelled", "montgomery_held_out", "shenzhen")
    }
    assert [len(files) for files in names.values()] == [10, 20, 40]
    assert len(set.union(*names.values())) == 70
    assert len(list((tmp_path / "xrays").glob("nih/*"))) == num_unlabelled


def commands_of(folder: Path, pretrain: bool) -> str:
    options = DemoOptions(pretrain=pretrain)
    return "\n".join(str(command) for step in steps(folder, options, lambda: "cpu") for command in step.commands)


@pytest.mark.parametrize("pretrain", [False, True])
def test_commands_that_are_shown_run_as_they_are_in_the_folder(tmp_path: Path, pretrain) -> None:
    assert str(tmp_path) not in commands_of(tmp_path, pretrain)


def test_the_demo_pretrains_only_on_request(tmp_path: Path) -> None:
    shown = {pretrain: commands_of(tmp_path, pretrain) for pretrain in (False, True)}
    assert {pretrain: "DiffusionPretrainTrainer" in text for pretrain, text in shown.items()} == {
        False: False,
        True: True,
    }
    assert {pretrain: "--denoiser chest-xray-64" in text for pretrain, text in shown.items()} == {
        False: True,
        True: False,
    }


def trainings(folder: Path) -> dict[str, str]:
    """The commands of the trainings that run at once."""
    (step,) = [step for step in steps(folder, DemoOptions(), lambda: "cpu") if step.at_once]
    return dict(zip(step.at_once, map(str, step.commands), strict=True))


def test_both_models_have_the_same_plans_fold_and_minutes(tmp_path: Path) -> None:
    ours, stock = (command.replace(trainer, "TRAINER") for trainer, command in trainings(tmp_path).items())
    assert ours == stock
    assert "--minutes 3 " in ours


def test_the_benchmark_is_specified_as_a_user_would(tmp_path: Path) -> None:
    write_specification(tmp_path, "cpu")
    spec = read_spec(tmp_path / SPEC)
    assert [(model.name, model.folder.parent, model.labelled_cases) for model in spec.models] == [
        (trainer, tmp_path / "nnUNet_results" / LUNGS, 6) for trainer in (OURS, STOCK)
    ]
    assert [(domain.role, domain.images) for domain in spec.domains] == [
        ("source", tmp_path / "nnUNet_raw/Dataset002_MontgomeryHeldOut/imagesTr"),
        ("target", tmp_path / "nnUNet_raw/Dataset003_Shenzhen/imagesTr"),
    ]


@pytest.mark.parametrize("trainer", [OURS, STOCK])
def test_a_training_that_has_a_checkpoint_is_continued(trainer: str, tmp_path: Path) -> None:
    assert not trainings(tmp_path)[trainer].endswith("--c")
    folder = tmp_path / f"nnUNet_results/Dataset001_Lungs/{trainer}__nnUNetDiffusionEnsemblePlans__2d/fold_0"
    folder.mkdir(parents=True)
    (folder / "checkpoint_best.pth").touch()
    assert trainings(tmp_path)[trainer].endswith("--c")
