"""Measures on a GPU machine without a network, in a given time; benchmarks/gpu/prepare.py packs what it needs.

    python3 benchmarks/gpu/run.py OUTPUT --work WORK --minutes 9 [--steps install data tests speed ...] [--size 128]

install: the packed wheels and this repository, into WORK/site. data: the packed X-rays, planned and preprocessed.
tests: pytest -m gpu. speed, compiled: iterations a second of pretraining, head training and prediction beside stock
nnU-Net, without and with torch.compile. memory: the planner's memory target beside what is used. pretrain: a denoiser,
in the time that is left. export: its weights, samples and curves. study (only if named): trainers side by side on few
labels, in the time that is left. WORK is kept between runs, OUTPUT gets small files.

Each step is a process of its own with a limit in seconds: one that fails or is too slow does not lose the others.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from results import add_result

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
PACKAGE = "nnunet_diffusion_ensemble"
LOG_TAIL = 2000  # characters of a failed step's output in the results


@dataclass(frozen=True)
class Step:
    """What to run and for how long at most; None is all the time that is left for it."""

    script: str | None
    seconds: float | None
    arguments: tuple[str, ...] = ()
    compiles: bool = False


STEPS = {
    "install": Step(None, 90),
    "data": Step("data.py", 120),
    "tests": Step(None, 240),
    "speed": Step("speed.py", 120),
    "compiled": Step("speed.py", 160, ("--compiled",), compiles=True),
    "memory": Step("memory.py", 60),
    "pretrain": Step("pretrain.py", None),
    "export": Step("export.py", 40),
    "study": Step("study.py", None),
}
DEFAULT_STEPS = tuple(name for name in STEPS if name != "study")  # which takes the time of the pretraining


@dataclass(frozen=True)
class Run:
    """Where things are and when all must be done."""

    args: argparse.Namespace
    deadline: float  # of time.monotonic()

    @property
    def site(self) -> Path:
        return self.args.work / "site"

    def environment(self, step: Step) -> dict[str, str]:
        """nnU-Net's variables; its trainers are found without registration."""
        folders = {f"nnUNet_{name}": str(self.args.work / name) for name in ("raw", "preprocessed", "results")}
        workers = 0 if self.args.dry_run else max(1, (os.cpu_count() or 2) - 2)
        return {
            **os.environ,
            **folders,
            "PYTHONPATH": os.pathsep.join([str(self.site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "passive",
            "nnUNet_extTrainer": str(self.site / PACKAGE / "external"),
            "nnUNet_n_proc_DA": str(workers),
            "nnUNet_compile": "t" if step.compiles else "f",
        }

    def command(self, name: str, step: Step, seconds: float) -> list[str]:
        if name == "tests":
            report = ["--junitxml", str(self.args.output / "junit.xml"), "-p", "no:cacheprovider"]
            return [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-v", "--tb=short", *report]
        assert step.script is not None
        named = {"--work": self.args.work, "--output": self.args.output, "--images": self.args.images}
        named |= {"--device": self.args.device, "--size": self.args.size, "--seconds": round(seconds)}
        return [
            *(sys.executable, str(HERE / step.script), *step.arguments),
            *(str(part) for pair in named.items() for part in pair),
            *(["--dry-run"] if self.args.dry_run else []),
        ]


def install(run: Run) -> None:
    """Unpacks the wheels, and copies the package as its build would lay it out (`package-dir` in pyproject.toml)."""
    shutil.rmtree(run.site, ignore_errors=True)
    wheels = sorted(str(wheel) for wheel in run.args.wheels.glob("*.whl"))
    options = ["-q", "--no-index", "--no-deps", "--no-compile", "--target", str(run.site)]
    if wheels:
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *wheels], check=True)
    mapped = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    for name in sorted(mapped, key=len):
        target = run.site.joinpath(*name.split("."))
        shutil.copytree(REPOSITORY / mapped[name], target, ignore=shutil.ignore_patterns("__pycache__"))


def run_step(run: Run, name: str, seconds: float) -> str:
    """Runs a step for so many seconds at most; `done`, or what went wrong."""
    step, log = STEPS[name], run.args.output / "log.txt"
    start = log.stat().st_size if log.exists() else 0
    with log.open("a") as stream:
        print(f"==== {name}, at most {seconds:.0f} s", file=stream, flush=True)
        if name == "install":
            install(run)
            return "done"
        process = subprocess.Popen(
            run.command(name, step, seconds),
            cwd=REPOSITORY,
            env=run.environment(step),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # with its workers in one group, so that all of them can be ended
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
    if status == 0:
        return "done"
    print(log.read_bytes()[start:].decode(errors="replace")[-LOG_TAIL:], flush=True)
    return "out of time" if status is None else f"exit status {status}"


def _end(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        return
    process.wait()


def seconds_for(name: str, later: list[str], left: float) -> float:
    """The limit of a step, so that the steps after one without a limit still get theirs."""
    limit = STEPS[name].seconds
    if limit is None:
        return left - sum(STEPS[step].seconds or 0 for step in later)
    return min(limit, left)


def run_steps(run: Run) -> bool:
    """Runs the steps one after the other; whether all went well."""
    went_well = True
    for position, name in enumerate(run.args.steps):
        start = time.monotonic()
        seconds = seconds_for(name, run.args.steps[position + 1 :], run.deadline - start)
        if seconds < 5:
            state = "no time left"
        else:
            try:
                state = run_step(run, name, seconds)
            except (OSError, subprocess.CalledProcessError) as error:
                state = f"{type(error).__name__}: {error}"
        row = {"step": name, "state": state, "seconds": round(time.monotonic() - start, 1)}
        add_result(run.args.output, "steps", row)
        print(row, flush=True)
        went_well &= state == "done"
    return went_well


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for packages, data and models")
    parser.add_argument("--minutes", type=float, default=9, help="after which all is done or ended")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(DEFAULT_STEPS))
    parser.add_argument("--size", type=int, default=128, help="of the X-rays, in pixels")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--wheels", type=Path, default=REPOSITORY / ".gpu" / "wheels")
    parser.add_argument("--images", type=Path, default=REPOSITORY / ".gpu" / "images")
    parser.add_argument("--dry-run", action="store_true", help="one iteration of everything with a tiny network")
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    for name in ("output", "work", "wheels", "images"):
        setattr(args, name, getattr(args, name).resolve())
    for folder in (args.output, args.work):
        folder.mkdir(parents=True, exist_ok=True)
    sys.exit(0 if run_steps(Run(args, deadline)) else 1)


if __name__ == "__main__":
    main()
