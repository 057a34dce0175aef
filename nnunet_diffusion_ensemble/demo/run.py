"""`nnunet-diffusion demo`: does the steps that are not done yet, in one folder, and shows the report."""

import os
import shlex
import sys
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from nnunet_diffusion_ensemble.demo.folder import DemoFolder, child_environment, own_variables
from nnunet_diffusion_ensemble.demo.steps import QUICK, REPORT, DemoOptions, Step, steps
from nnunet_diffusion_ensemble.system.atomic import write_text
from nnunet_diffusion_ensemble.system.child_processes import (
    INTERRUPTED,
    Job,
    Screen,
    clock,
    run_jobs,
)
from nnunet_diffusion_ensemble.system.guard import alone_at
from nnunet_diffusion_ensemble.system.signals import ending_on_signals

FAREWELL = """In {folder}:
  {report}   both models on both hospitals, case by case: open it in a browser
  summary.json     Dice of every case
  nnUNet_results   the models; progress.png shows how they were trained
  environment.sh   `source` it there, and the commands above work in your shell
Next, your own images: nnunet-diffusion convert --help"""


def run_demo(
    path: Path, options: DemoOptions | None = None, screen: Screen | None = None, opens_report: bool | None = False
) -> int:
    """Runs the steps that are not done yet; returns the exit status.

    Args:
        path: folder in which everything happens; made if it is not there, continued if a demo made it.
        options: sizes.
        screen: where progress is shown.
        opens_report: show the report in a browser at the end; None: if somebody sits at a terminal of a desktop.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: it was made by another version or with other options.
        RuntimeError: a command failed; the message quotes its last lines.
        AtWorkError: another demo runs in this folder.
    """
    options, screen = options or DemoOptions(), screen or Screen()
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    with alone_at(path.absolute()):
        status = _run_steps(path, options, screen)
    if status == 0 and (has_desktop() and screen.is_terminal if opens_report is None else opens_report):
        webbrowser.open((path.resolve() / REPORT).as_uri())
    return status


def has_desktop() -> bool:
    """Whether a browser would open a window that the user sees."""
    if "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _run_steps(path: Path, options: DemoOptions, screen: Screen) -> int:
    demo = DemoFolder(path, asdict(options))
    exports = [f"export {name}={shlex.quote(value)}" for name, value in own_variables(demo.path).items()]
    write_text(demo.path / "environment.sh", "\n".join(exports))
    screen.say(f"Demo in {demo.path}; if interrupted, run it again.")
    try:
        with ending_on_signals(), ThreadPoolExecutor(1) as background:
            device = background.submit(_best_device).result
            num_steps = len(list(steps(demo.path, options, lambda: "cpu")))
            for number, step in enumerate(steps(demo.path, options, device), 1):
                done = demo.is_done(step.name, step.results)
                screen.say(f"[{number}/{num_steps}] {step.title}{': done before' if done else ''}")
                if not done:
                    _run_step(step, demo, screen)
    except KeyboardInterrupt:
        screen.say(f"\nInterrupted. Continue with: {_again(path, options)}")
        return INTERRUPTED
    screen.say(f"\n{(demo.path / 'results.txt').read_text()}")
    screen.say(f"Done in {clock(sum(demo.done_seconds.values()))}. {FAREWELL.format(folder=demo.path, report=REPORT)}")
    return 0


def _best_device() -> str:
    import torch  # takes seconds, in which the first steps run

    return "cuda" if torch.cuda.is_available() else "cpu"


def _run_step(step: Step, demo: DemoFolder, screen: Screen) -> None:
    start = monotonic()
    step.before()
    names = step.at_once or ("",) * len(step.commands)
    jobs = [
        Job(command, demo.path / "logs" / f"{'_'.join(filter(None, (step.name, name)))}.txt", step.progress(), name)
        for command, name in zip(step.commands, names, strict=True)
    ]
    for together in [jobs] if step.at_once else [[job] for job in jobs]:
        for job in together:
            screen.say(f"  $ {job.command}")
        run_jobs(together, demo.path, child_environment(demo.path, os.environ, len(together)), screen)
    step.after()
    demo.note_done(step.name, monotonic() - start)


def _again(path: Path, options: DemoOptions) -> str:
    """The command that goes on."""
    more = ["--pretrain"] * options.pretrain + ["--quick"] * (options == QUICK)
    return shlex.join(["nnunet-diffusion", "demo", str(path.resolve()), *more])
