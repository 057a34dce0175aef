"""Command line: help at once, a user's mistake as one sentence."""

import tempfile

import pytest
from imports import imported_by

from nnunet_diffusion_ensemble.benchmark.spec_file import read_spec
from nnunet_diffusion_ensemble.cli import benchmark as cli_benchmark
from nnunet_diffusion_ensemble.cli import report as cli_report
from nnunet_diffusion_ensemble.cli.parser import build_parser, main
from nnunet_diffusion_ensemble.cli.plan import METHOD_OPTIONS
from nnunet_diffusion_ensemble.demo import run as demo_run
from nnunet_diffusion_ensemble.demo.steps import QUICK, DemoOptions
from nnunet_diffusion_ensemble.method import DiffusionMethod


def test_help_imports_nothing_heavy():
    code = "from nnunet_diffusion_ensemble.cli.parser import build_parser; build_parser().format_help()"
    assert imported_by(code, ["torch", "nnunetv2", "numpy", "monai", "matplotlib", "argparse"]) == {"argparse"}


def test_the_example_of_a_specification_in_the_help_is_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    example = cli_benchmark.EXAMPLE.split("\n", maxsplit=1)[1]
    (tmp_path / "spec.yaml").write_text(example)
    assert [model.name for model in read_spec(tmp_path / "spec.yaml").models] == ["TEDM", "nnU-Net"]
    with pytest.raises(SystemExit):
        main(["benchmark", "--help"])
    assert example in capsys.readouterr().out


def test_every_method_option_names_a_setting_that_exists():
    for option, path in METHOD_OPTIONS.items():
        settings = DiffusionMethod()
        for name in path.split("."):
            assert hasattr(settings, name), f"{option}: {path}"
            settings = getattr(settings, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "Lungs", "--unlabelled", "nowhere"], "Dataset001_"),
        (["convert", "Dataset001_L", "--images", "a", "--masks", "b", "--labels", "lung"], "NAME=VALUE"),
    ],
)
def test_a_mistake_is_told_without_a_stack_trace(arguments, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_an_interruption_is_no_stack_trace_either(capsys, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_report, "run", interrupted)
    assert main(["report", "anywhere"]) == 130
    assert capsys.readouterr().err == "nnunet-diffusion: interrupted\n"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (RuntimeError("no worker is left"), 2, "nnunet-diffusion: error: no worker is left\n"),
        (ValueError("no such fold"), 2, "nnunet-diffusion: error: no such fold\n"),
        (FileNotFoundError(2, "No such file", "here.csv"), 2, "nnunet-diffusion: error: here.csv: No such file\n"),
        (RuntimeError(), 3, "this is a mistake of nnunet-diffusion"),
        (RecursionError("too deep"), 3, "this is a mistake of nnunet-diffusion"),
        (KeyError("patch_size"), 3, "not of yours. KeyError: 'patch_size'. The stack trace is in"),
    ],
)
def test_errors_written_for_users_end_with_status_2_and_others_with_3(
    error, status, message, capsys, monkeypatch, tmp_path
):
    def fails(arguments):
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cli_report, "run", fails)
    assert main(["report", "results"]) == status
    assert message in capsys.readouterr().err


def test_plan_options_reach_the_plans_by_dotted_path(monkeypatch):
    seen = {}
    import nnunet_diffusion_ensemble.planning.plan as module

    monkeypatch.setattr(module, "plan", lambda dataset, options, *rest: seen.update(vars(options)) or "P")
    assert main(["plan", "-d", "3", "--timesteps", "1", "50", "--epochs", "4", "--mirror-axes", "-1"]) == 0
    assert seen["method"] == {"ensemble.timesteps": (1, 50), "training.num_epochs": 4, "mirror_axes": ()}
    assert seen["base_features"] is None


@pytest.mark.parametrize(
    ("options", "sizes", "opens"),
    [
        ([], DemoOptions(), None),
        (["--pretrain", "--no-open"], DemoOptions(pretrain=True), False),
        (["--quick", "--open"], QUICK, True),
    ],
)
def test_the_demo_is_told_its_folder_its_sizes_and_whether_to_open_the_report(
    options, sizes, opens, monkeypatch, tmp_path
):
    seen = []
    monkeypatch.setattr(demo_run, "run_demo", lambda *arguments, **named: seen.append((arguments, named)) or 0)
    assert main(["demo", str(tmp_path), *options]) == 0
    assert seen == [((tmp_path, sizes), {"opens_report": opens})]


def test_a_quick_demo_has_no_time_to_pretrain(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["demo", "--quick", "--pretrain"])
    assert "not allowed with" in capsys.readouterr().err


def test_check_and_undo_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["register", "--check", "--undo"])
    assert "not allowed with" in capsys.readouterr().err
