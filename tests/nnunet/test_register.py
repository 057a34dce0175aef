"""Discovery by nnU-Net: the shims in a stand-in for nnU-Net's folder, asked through nnU-Net's own look-up function."""

import errno
import importlib.util
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from other_process import holding

from nnunet_diffusion_ensemble.nnunet import register as registration
from nnunet_diffusion_ensemble.system.guard import AtWorkError

REPOSITORY = Path(__file__).resolve().parents[2]
TRAINER_SHIM = Path("training", "nnUNetTrainer", "nnunet_diffusion_trainers.py")
PLANNER_SHIM = Path("experiment_planning", "nnunet_diffusion_planners.py")
BLOCK_OUR_PACKAGE = "import sys; sys.modules['nnunet_diffusion_ensemble'] = None\n"


@pytest.fixture
def nnunetv2_folder(tmp_path: Path) -> Path:
    """A tree with the two folders of nnU-Net that matter, and a stand-in trainer and planner of its own in each."""
    folder = tmp_path / "nnunetv2"
    for module, class_name in (
        ("training/nnUNetTrainer/nnUNetTrainer.py", "nnUNetTrainer"),
        ("training/nnUNetTrainer/variants/zebra.py", "nnUNetTrainerZebra"),
        ("experiment_planning/plans.py", "ExperimentPlanner"),
    ):
        path = folder / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"class {class_name}:\n    pass\n")
        (path.parent / "__init__.py").touch()
    return folder


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put a throw-away module in the place of our first trainer; return the name of its class."""
    (tmp_path / "throwaway_plugin.py").write_text("class ThrowawayTrainer:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registration.TRAINERS, "ThrowawayTrainer", "throwaway_plugin")
    yield "ThrowawayTrainer"
    sys.modules.pop("throwaway_plugin", None)


def look_up(folder: Path, class_name: str) -> type | None:
    """Ask nnU-Net for a class, just as it asks in a folder of `nnUNet_extTrainer`."""
    return recursive_find_python_class(
        str(folder), class_name, None, base_folder=str(folder), cleanup_imports_from_base_folder=True
    )


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that can also import from `paths`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd="/")


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse_writing(monkeypatch: pytest.MonkeyPatch, folder_name: str, error: OSError) -> None:
    """Make changes in folders of that name fail, as root is not stopped by file modes."""
    for method in ("write_bytes", "replace", "unlink"):
        original = getattr(Path, method)

        def refuse(path: Path, *args, _original=original, **kwargs):
            if path.parent.name == folder_name and path.exists() | (_original.__name__ == "write_bytes"):
                raise error
            return _original(path, *args, **kwargs)

        monkeypatch.setattr(Path, method, refuse)


def test_register_writes_one_shim_into_each_folder_and_nothing_else(nnunetv2_folder):
    before = files_below(nnunetv2_folder)
    written = registration.register(nnunetv2_folder)
    assert written == [nnunetv2_folder / TRAINER_SHIM, nnunetv2_folder / PLANNER_SHIM]
    assert set(files_below(nnunetv2_folder)) - set(before) == {TRAINER_SHIM, PLANNER_SHIM}


def test_a_shim_can_be_read_by_every_user(nnunetv2_folder):
    old_mask = os.umask(0o077)
    try:
        written = registration.register(nnunetv2_folder)
    finally:
        os.umask(old_mask)
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in written)


def test_nnunet_finds_our_class_through_the_shim_and_it_is_the_class_of_its_own_module(nnunetv2_folder, plugin):
    registration.register(nnunetv2_folder)
    found = look_up(nnunetv2_folder / TRAINER_SHIM.parent, plugin)
    assert found is import_module("throwaway_plugin").ThrowawayTrainer


@pytest.mark.parametrize("class_name", ["nnUNetTrainer", "nnUNetTrainerZebra"])
def test_nnunet_still_finds_its_own_classes_beside_the_shim(nnunetv2_folder, class_name):
    registration.register(nnunetv2_folder)
    found = look_up(nnunetv2_folder / TRAINER_SHIM.parent, class_name)
    assert found is not None and found.__name__ == class_name


@pytest.mark.parametrize("shim", [TRAINER_SHIM, PLANNER_SHIM])
def test_importing_a_shim_imports_neither_our_package_nor_anything_else(nnunetv2_folder, shim):
    registration.register(nnunetv2_folder)
    code = (
        "import sys, importlib.machinery; before = set(sys.modules)\n"
        f"import {shim.stem} as shim; hasattr(shim, 'nnUNetTrainer'); print(*(set(sys.modules) - before))"
    )
    answer = python(code, (nnunetv2_folder / shim).parent, REPOSITORY)
    assert answer.stdout.split() == [shim.stem], answer.stderr


@pytest.mark.parametrize("name", ["__path__", "__all__", "__wrapped__", "nnUNetTrainer", "_private"])
def test_a_shim_has_no_attribute_that_is_not_in_its_table(nnunetv2_folder, name):
    registration.register(nnunetv2_folder)
    specification = importlib.util.spec_from_file_location("shim_alone", nnunetv2_folder / TRAINER_SHIM)
    shim = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(shim)
    assert not hasattr(shim, name)


def test_a_star_import_of_a_shim_works_without_our_package(nnunetv2_folder):
    registration.register(nnunetv2_folder)
    code = BLOCK_OUR_PACKAGE + f"from {PLANNER_SHIM.stem} import *; print('fine')"
    answer = python(code, nnunetv2_folder / PLANNER_SHIM.parent)
    assert answer.stdout == "fine\n", answer.stderr


def test_once_we_are_uninstalled_nnunet_still_finds_its_own_classes(nnunetv2_folder):
    registration.register(nnunetv2_folder)
    folder = nnunetv2_folder / TRAINER_SHIM.parent
    code = BLOCK_OUR_PACKAGE + (
        "from nnunetv2.utilities.find_class_by_name import recursive_find_python_class as find\n"
        f"print(find({str(folder)!r}, 'nnUNetTrainerZebra', None), find({str(folder)!r}, 'NoSuchTrainer', None))"
    )
    answer = python(code)
    assert answer.stdout == "<class 'variants.zebra.nnUNetTrainerZebra'> None\n", answer.stderr


def test_once_we_are_uninstalled_asking_for_our_class_says_what_to_do(nnunetv2_folder, tmp_path, plugin):
    registration.register(nnunetv2_folder)
    (tmp_path / "throwaway_plugin.py").unlink()
    sys.modules.pop("throwaway_plugin", None)
    with pytest.raises(ImportError, match=r"no module throwaway_plugin.*register.*or delete .*diffusion_trainers\.py"):
        look_up(nnunetv2_folder / TRAINER_SHIM.parent, plugin)


def test_a_missing_dependency_of_our_class_is_reported_as_itself(nnunetv2_folder, tmp_path, plugin):
    registration.register(nnunetv2_folder)
    (tmp_path / "throwaway_plugin.py").write_text("import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_dependency'"):
        look_up(nnunetv2_folder / TRAINER_SHIM.parent, plugin)


def test_check_reports_missing_then_current_and_changes_nothing(nnunetv2_folder):
    before = files_below(nnunetv2_folder)
    assert [status.state for status in registration.shim_states(nnunetv2_folder)] == ["missing", "missing"]
    assert files_below(nnunetv2_folder) == before
    registration.register(nnunetv2_folder)
    assert [status.state for status in registration.shim_states(nnunetv2_folder)] == ["current", "current"]


def test_a_shim_with_an_older_table_is_outdated_and_register_renews_it(nnunetv2_folder, monkeypatch):
    registration.register(nnunetv2_folder)
    monkeypatch.setitem(registration.PLANNERS, "NewPlanner", "somewhere.new")
    assert [status.state for status in registration.shim_states(nnunetv2_folder)] == ["current", "outdated"]
    registration.register(nnunetv2_folder)
    assert [status.state for status in registration.shim_states(nnunetv2_folder)] == ["current", "current"]


def test_undo_restores_the_tree_bytecode_included(nnunetv2_folder, plugin, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    look_up(nnunetv2_folder / TRAINER_SHIM.parent, "nnUNetTrainerZebra")
    before = files_below(nnunetv2_folder)
    written = registration.register(nnunetv2_folder)
    look_up(nnunetv2_folder / TRAINER_SHIM.parent, plugin)
    assert len(files_below(nnunetv2_folder)) == len(before) + 3  # two shims, and the bytecode of one
    assert registration.unregister(nnunetv2_folder) == written
    assert files_below(nnunetv2_folder) == before


def test_undo_without_shims_removes_nothing(nnunetv2_folder):
    assert registration.unregister(nnunetv2_folder) == []


@pytest.mark.parametrize("command", [registration.register, registration.unregister])
@pytest.mark.parametrize("foreign", [TRAINER_SHIM, PLANNER_SHIM])
def test_a_file_that_we_did_not_write_is_refused_and_nothing_is_changed(nnunetv2_folder, command, foreign):
    registration.register(nnunetv2_folder)
    (nnunetv2_folder / foreign).write_text("class Theirs:\n    pass\n")
    before = files_below(nnunetv2_folder)
    with pytest.raises(FileExistsError, match=rf"{foreign.name} was not written by nnunet-diffusion.*Move it away"):
        command(nnunetv2_folder)
    assert files_below(nnunetv2_folder) == before


def test_a_folder_with_the_name_of_a_shim_is_foreign(nnunetv2_folder):
    (nnunetv2_folder / PLANNER_SHIM).mkdir()
    assert registration.shim_states(nnunetv2_folder)[1].state == "foreign"


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "denied"), OSError(errno.EROFS, "read-only")])
def test_a_read_only_folder_leaves_nothing_behind_and_the_message_says_what_to_do_instead(
    nnunetv2_folder, monkeypatch, error
):
    before = files_below(nnunetv2_folder)
    monkeypatch.setenv("nnUNet_extTrainer", "/their/trainers")
    refuse_writing(monkeypatch, "experiment_planning", error)
    with pytest.raises(PermissionError) as caught:
        registration.register(nnunetv2_folder)
    external = REPOSITORY / "nnunet_diffusion_ensemble" / "external"
    assert f"export nnUNet_extTrainer=/their/trainers{os.pathsep}{external}\n" in str(caught.value)
    assert "nnunet-diffusion plan" in str(caught.value)
    assert files_below(nnunetv2_folder) == before


def test_a_full_disk_is_reported_as_such_and_leaves_the_earlier_shims(nnunetv2_folder, monkeypatch):
    registration.register(nnunetv2_folder)
    before = files_below(nnunetv2_folder)
    for table in (registration.TRAINERS, registration.PLANNERS):
        monkeypatch.setitem(table, "New", "somewhere.new")
    refuse_writing(monkeypatch, "experiment_planning", OSError(errno.ENOSPC, "The disk is full"))
    with pytest.raises(OSError, match="The disk is full") as caught:
        registration.register(nnunetv2_folder)
    assert not isinstance(caught.value, PermissionError)
    assert files_below(nnunetv2_folder) == before


def test_a_second_registration_is_told_who_is_at_work_and_changes_nothing(nnunetv2_folder):
    with holding("at", nnunetv2_folder / TRAINER_SHIM) as other:
        before = files_below(nnunetv2_folder)
        with pytest.raises(AtWorkError, match=f"process {other.pid} on "):
            registration.register(nnunetv2_folder)
        assert files_below(nnunetv2_folder) == before


def test_what_is_current_is_not_written_again(nnunetv2_folder):
    written = registration.register(nnunetv2_folder)
    with holding("at", nnunetv2_folder / TRAINER_SHIM):
        assert registration.register(nnunetv2_folder) == written


def test_undo_in_a_folder_that_turned_read_only_keeps_both_shims(nnunetv2_folder, monkeypatch):
    registration.register(nnunetv2_folder)
    before = files_below(nnunetv2_folder)
    refuse_writing(monkeypatch, "experiment_planning", PermissionError(errno.EACCES, "denied"))
    with pytest.raises(PermissionError, match="nothing was changed"):
        registration.unregister(nnunetv2_folder)
    assert files_below(nnunetv2_folder) == before


def test_a_folder_that_is_no_nnunetv2_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nnUNetTrainer.*pip install 'nnunetv2>=2\.8\.1,<3'"):
        registration.register(tmp_path)


def test_the_installed_nnunetv2_is_located_without_importing_it_or_torch():
    code = (
        "import sys; from nnunet_diffusion_ensemble.nnunet.register import shim_states; states = shim_states()\n"
        "print(len(states), 'nnunetv2' in sys.modules, 'torch' in sys.modules)"
    )
    answer = python(code, REPOSITORY)
    assert answer.stdout == "2 False False\n", answer.stderr


def test_the_external_folder_serves_the_same_class_at_every_look_up(plugin):
    first, second = (look_up(registration.EXTERNAL_FOLDER, plugin) for _ in range(2))
    assert first is second is import_module("throwaway_plugin").ThrowawayTrainer
    assert look_up(registration.EXTERNAL_FOLDER, "NoSuchTrainer") is None


def test_the_external_folder_ends_nobodys_look_up_when_we_are_not_installed():
    code = BLOCK_OUR_PACKAGE + (
        "from nnunetv2.utilities.find_class_by_name import recursive_find_python_class as find\n"
        f"print(find({str(registration.EXTERNAL_FOLDER)!r}, 'TheirTrainer', None))"
    )
    answer = python(code)
    assert answer.stdout == "None\n"
    assert "nnunet-diffusion-ensemble is not installed here" in answer.stderr


def test_run_says_what_was_written_what_state_it_is_in_and_what_was_removed(nnunetv2_folder, monkeypatch):
    monkeypatch.setattr(registration, "find_nnunetv2", lambda: nnunetv2_folder)
    trainer_shim, planner_shim = nnunetv2_folder / TRAINER_SHIM, nnunetv2_folder / PLANNER_SHIM
    said, status = registration.run(check_only=True)
    assert status == 1 and f"missing: {trainer_shim}\nmissing: {planner_shim}\n" in said
    said, status = registration.run()
    assert status == 0 and f"wrote: {trainer_shim} (DiffusionPretrainTrainer, DiffusionEnsembleTrainer" in said
    assert registration.run(undo=True) == (f"removed: {trainer_shim}\nremoved: {planner_shim}", 0)
    assert registration.run(undo=True) == ("nothing to remove", 0)


@pytest.mark.parametrize("answer, status", [("finds", 0), ("does not find", 1)])
def test_check_asks_nnunet_itself_for_every_class_once_the_shims_are_current(
    nnunetv2_folder, monkeypatch, answer, status
):
    monkeypatch.setattr(registration, "find_nnunetv2", lambda: nnunetv2_folder)
    monkeypatch.setattr(registration, "look_up", lambda shim, name: f"nnU-Net {answer} {name}")
    registration.run()
    said, returned = registration.run(check_only=True)
    assert returned == status
    assert all(f"nnU-Net {answer} {name}" in said for name in registration.TRAINERS | registration.PLANNERS)


@pytest.mark.parametrize(
    "module_text, said",
    [
        ("class Wanted:\n    pass\n", "nnU-Net finds Wanted"),
        ("class Other:\n    pass\n", "nnU-Net does not find Wanted"),
        ("raise OSError('libcudart is missing')\n", "nnU-Net cannot load Wanted: libcudart is missing"),
    ],
)
def test_the_answer_of_nnunets_look_up_becomes_a_sentence(tmp_path, monkeypatch, module_text, said):
    package = f"stand_in_{len(module_text)}"
    walked = tmp_path / package / "walked"
    walked.mkdir(parents=True)
    (walked / "module.py").write_text(module_text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registration, "find_nnunetv2", lambda: tmp_path / package)
    shim = registration.Shim("trainers", f"{package}.walked", {"Wanted": "unused"})
    assert registration.look_up(shim, "Wanted") == said
