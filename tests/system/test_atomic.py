"""Files that are there whole or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_diffusion_ensemble.system import atomic
from nnunet_diffusion_ensemble.system.atomic import replace_folder, whole_file, write_text


def test_until_the_end_of_writing_the_old_content_stands(tmp_path: Path) -> None:
    file = tmp_path / "plans.json"
    file.write_text("old")
    with whole_file(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_old_content_stands_and_no_other_file(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "plans.json"
    file.write_text("old")
    with pytest.raises(error), whole_file(file) as temporary:
        temporary.write_text("ne")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_kill_left_behind_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "plans.json.partial").write_text("half of something long")
    write_text(tmp_path / "plans.json", "new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"plans.json": "new\n"}


def test_a_power_failure_finds_the_content_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name}")
        return replace(self, target)

    monkeypatch.setattr(atomic.os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to tell which file a descriptor stands for")
    write_text(tmp_path / "plans.json", "new")
    assert steps == ["flush plans.json.partial", "rename plans.json.partial", f"flush {tmp_path.name}"]


# ---- folders

# In a small process of its own: replaces `data`, killed at the first, second, ... step, and prints what is there then.
KILLED_AT_EACH_STEP = """\
import itertools, json, os, sys
from pathlib import Path
from nnunet_diffusion_ensemble.system import atomic

STEPS = ("os.rename", "os.remove", "os.rmdir", "os.open", "shutil.rmtree", "ctypes.dlopen")  # audit events
if sys.argv[2] == "without exchange":
    atomic._exchange = lambda one, other: False
for step in itertools.count():
    folder, new = (Path(sys.argv[1], str(step), name) for name in ("data", ".data.partial"))
    for made, word in ((folder, "old"), (new, "new")):
        made.mkdir(parents=True)
        for i in range(3):
            (made / f"{i}.txt").write_text(word)
    child = os.fork()
    if child == 0:
        left = step
        def count(event, arguments):
            global left
            left -= event in STEPS
            if left < 0:
                os.kill(os.getpid(), 9)
        sys.addaudithook(count)
        atomic.replace_folder(new, folder)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if sys.argv[2] == "without exchange":
        atomic.bring_back_folder(folder)
    others = sorted(path.name for path in folder.parent.iterdir() if path != folder)
    print(json.dumps([{file.name: file.read_text() for file in folder.iterdir()}, others]))
    if status == 0:
        break
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names")
@pytest.mark.parametrize("how", ["with exchange", "without exchange"])
def test_a_folder_is_the_old_one_or_the_new_one_whenever_its_replacement_is_killed(how: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_AT_EACH_STEP, str(tmp_path), how]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seen = [json.loads(line) for line in printed.splitlines()]
    whole = [dict.fromkeys(("0.txt", "1.txt", "2.txt"), word) for word in ("old", "new")]
    assert len(seen) > 5 and all(files in whole for files, _ in seen)
    assert seen[0][0] == whole[0]
    assert seen[-1] == [whole[1], []]
    assert not any(".data.old" in others for _, others in seen)


def test_a_folder_that_replaces_none_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    replace_folder(tmp_path / "new", tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
