"""How errors end a command of ours, and one of nnU-Net's in which our code runs."""

import sys

import pytest

from nnunet_diffusion_ensemble.system.explained import explained
from nnunet_diffusion_ensemble.system.places import refuse_file
from nnunet_diffusion_ensemble.system.told import (
    OUR_MISTAKE,
    TRACEBACK,
    USERS_MISTAKE,
    tell_in_nnunets_commands,
    told_to_user,
)

WORKERS = RuntimeError("One or more background workers are no longer alive. Exiting.")


@pytest.fixture
def nnunets_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/nnUNetv2_train", "1"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    tell_in_nnunets_commands()


def ended_by(error: Exception) -> None:
    """As Python ends a program."""
    sys.excepthook(type(error), error, error.__traceback__)


def ours(path: object) -> Exception:
    try:
        refuse_file(path)  # type: ignore[arg-type]
    except OSError as error:
        return error
    raise AssertionError


def test_nnunets_command_ends_with_the_sentence_of_our_error(
    nnunets_command: None, capsys: pytest.CaptureFixture, tmp_path
) -> None:
    (tmp_path / "file").touch()
    ended_by(ours(tmp_path / "file"))
    told = f"nnUNetv2_train: error: {tmp_path}/file is a file, but a folder is needed. Name another one.\n"
    assert capsys.readouterr().err == told


def test_an_error_of_other_code_keeps_its_stack_trace(nnunets_command: None, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(ValueError) as caught:
        int("one")
    ended_by(caught.value)
    assert "Traceback" in capsys.readouterr().err


def test_a_variable_brings_the_stack_trace_back(
    nnunets_command: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path
) -> None:
    monkeypatch.setenv(TRACEBACK, "1")
    (tmp_path / "file").touch()
    ended_by(ours(tmp_path / "file"))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("program", ["python", "pytest", "nnunet-diffusion", ""])
def test_other_programs_end_as_they_ever_did(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program] if program else [])
    before = sys.excepthook
    tell_in_nnunets_commands()
    assert sys.excepthook is before


def test_an_error_that_is_known_is_explained_with_its_own_words() -> None:
    text, status = told_to_user(WORKERS)
    assert status == USERS_MISTAKE
    assert "nnUNet_n_proc_DA=2" in text
    assert "(It says: RuntimeError: One or more background workers" in text


def test_others_are_not() -> None:
    assert explained(RuntimeError("something else")) == ""
    assert told_to_user(KeyError("a"))[1] == OUR_MISTAKE
