"""One process at a time: another one is told, a dead one blocks nobody, and workers hold nothing."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from other_process import holding

from nnunet_diffusion_ensemble.system import guard
from nnunet_diffusion_ensemble.system.guard import AtWorkError, alone_at, alone_in, if_free

FORKS = """\
import os, sys, time
from pathlib import Path
from nnunet_diffusion_ensemble.system.guard import alone_in
with alone_in(Path(sys.argv[1])):
    worker = os.fork()
    if worker == 0:
        print(os.getpid(), flush=True)
        time.sleep(30)
        os._exit(0)
    time.sleep(30)
"""


@pytest.mark.parametrize(("how", "alone"), [("in", alone_in), ("at", alone_at)])
def test_the_second_is_told_who_is_at_work(how: str, alone: Callable, tmp_path: Path) -> None:
    place = tmp_path / "output"
    with (
        holding(how, place) as other,
        pytest.raises(AtWorkError, match="being written by another process") as told,
        alone(place),
    ):
        pass
    for part in (f"process {other.pid} on {os.uname().nodename} since 20", f"(-c {how} {place})", str(place)):
        assert part in str(told.value)


@pytest.mark.parametrize(("how", "alone"), [("in", alone_in), ("at", alone_at)])
def test_a_killed_process_blocks_nobody(how: str, alone: Callable, tmp_path: Path) -> None:
    place = tmp_path / "output"
    with holding(how, place) as other:
        other.kill()
        other.wait()
        with alone(place):
            assert f"process {os.getpid()} " in guard._worker_at(_lock_of(how, place))


def _lock_of(how: str, place: Path) -> Path:
    return place / ".lock" if how == "in" else place.with_name(f".{place.name}.lock")


def test_nothing_is_left_when_the_block_ends(tmp_path: Path) -> None:
    with alone_at(tmp_path / "file"), alone_in(tmp_path / "folder"):
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".file.lock", ".lock", "folder"]
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_process_may_enter_again_and_holds_on_until_the_outer_block_ends(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        with alone_in(tmp_path):
            pass
        assert (tmp_path / ".lock").is_file()
        assert _is_free_for_others(tmp_path) is False
    assert _is_free_for_others(tmp_path) is True


def _is_free_for_others(folder: Path) -> bool:
    code = (
        "import sys; from pathlib import Path; from nnunet_diffusion_ensemble.system.guard import alone_in, if_free\n"
        "with if_free(alone_in(Path(sys.argv[1]))) as is_free: print(is_free)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return found.stdout == "True\n"


def test_an_error_in_shared_work_is_passed_on_and_frees_the_place(tmp_path: Path) -> None:
    with pytest.raises(KeyError), if_free(alone_in(tmp_path)) as is_free:
        assert is_free
        raise KeyError
    assert not (tmp_path / ".lock").exists()


def test_one_who_waits_goes_on_when_the_other_dies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with holding("in", tmp_path) as other:
        waiting = subprocess.Popen(
            [sys.executable, "-c", "import sys; from pathlib import Path\n"
             "from nnunet_diffusion_ensemble.system.guard import alone_in\n"
             "with alone_in(Path(sys.argv[1]), wait=True): print('in', flush=True)", str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert waiting.stderr is not None
        assert f"Waiting for process {other.pid} " in waiting.stderr.readline()
        assert waiting.poll() is None
        other.kill()
        assert waiting.communicate(timeout=20)[0] == "in\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        os.kill(worker, 0)  # it lives
        with alone_in(tmp_path):
            pass
        os.kill(worker, 9)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_worker_that_ends_leaves_its_parents_hold(tmp_path: Path) -> None:
    with alone_in(tmp_path):
        worker = os.fork()
        if worker == 0:
            os._exit(0)
        os.waitpid(worker, 0)
        assert _is_free_for_others(tmp_path) is False


def test_a_disk_without_locks_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object, **options: object) -> bool:
        raise OSError(guard.ENOLCK, "No locks available")

    monkeypatch.setattr(guard, "lock_descriptor", refuse)
    with alone_in(tmp_path):
        assert "has no locks: see to it that no other process writes there" in caplog.text


def test_processes_that_come_and_go_are_never_in_at_once(tmp_path: Path) -> None:
    """Each adds a line, alone, to what it has read: none may be lost."""
    code = (
        "import sys; from pathlib import Path; from nnunet_diffusion_ensemble.system.guard import alone_at\n"
        "file = Path(sys.argv[1])\n"
        "for _ in range(60):\n"
        "    with alone_at(file, wait=True):\n"
        "        text = file.read_text() if file.exists() else ''\n"
        "        file.write_text(text + 'x')\n"
    )
    file, start = tmp_path / "counted", time.monotonic()
    command = [sys.executable, "-c", f"import nnunet_diffusion_ensemble.system.guard as g; g.POLL_SECONDS=0\n{code}"]
    processes = [subprocess.Popen([*command, str(file)]) for _ in range(3)]
    assert [process.wait(timeout=30) for process in processes] == [0, 0, 0]
    assert file.read_text() == "x" * 180, time.monotonic() - start
