"""How long commands take to start, ours beside nnU-Net's: processes that import what a command imports, and end.

    python benchmarks/startup.py [--rounds 5]

Each line is the smallest CPU time of several rounds, in which all commands take turns. `over nnU-Net's` is what ours
adds to the imports of the nnU-Net command that does the same step.
"""

import argparse
import resource
import subprocess
import sys

TRAINING = "from nnunetv2.run.run_training import run_training_entry"
PREDICTION = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point"
PLANNING = "from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiment_dataset"
PACKAGE = "nnunet_diffusion_ensemble"
# Name, what it imports before it works, and the name of the line that it is compared with.
STARTS: tuple[tuple[str, str, str | None], ...] = (
    ("Python", "pass", None),
    ("nnUNetv2_train", TRAINING, None),
    ("nnUNetv2_predict", PREDICTION, None),
    ("nnUNetv2_plan_and_preprocess", PLANNING, None),
    ("import nnunet_diffusion_ensemble", f"import {PACKAGE}", "Python"),
    ("nnunet-diffusion --help", f"from {PACKAGE}.cli.parser import build_parser as b; b().format_help()", "Python"),
    *(
        (f"nnUNetv2_train -tr {trainer}", f"{TRAINING}; import {PACKAGE}.trainers.{module}", "nnUNetv2_train")
        for trainer, module in (
            ("DiffusionEnsembleTrainer", "diffusion_ensemble_trainer"),
            ("DiffusionPretrainTrainer", "diffusion_pretrain_trainer"),
            ("TEDMTrainer", "published_trainers"),
            ("ScratchTrainer", "scratch_trainer"),
        )
    ),
    ("nnunet-diffusion predict", f"{PREDICTION}; import {PACKAGE}.prediction.predict", "nnUNetv2_predict"),
    ("nnunet-diffusion benchmark", f"{PREDICTION}; import {PACKAGE}.benchmark.runner", "nnUNetv2_predict"),
    ("nnunet-diffusion plan, preprocess", f"import {PACKAGE}.planning.plan", "nnUNetv2_plan_and_preprocess"),
    ("nnunet-diffusion sample", f"import {PACKAGE}.denoiser.sampling, {PACKAGE}.denoiser.pretrained", "nnUNetv2_train"),
    ("nnunet-diffusion export", f"import {PACKAGE}.denoiser.export", "nnUNetv2_train"),
    ("nnunet-diffusion report", f"import {PACKAGE}.report.write", "nnUNetv2_train"),
    ("nnunet-diffusion few-label", f"import {PACKAGE}.study.few_label", "nnUNetv2_train"),
)


def seconds_of(code: str) -> float:
    """CPU time of a process, which other work on the machine changes little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    fastest: dict[str, float] = {}
    for _ in range(args.rounds):
        for name, code, _ in STARTS:
            fastest[name] = min(seconds_of(code), fastest.get(name, float("inf")))
    print("| command | CPU time, s | over nnU-Net's, s |\n|---|---|---|")
    for name, _, reference in STARTS:
        more = f"{fastest[name] - fastest[reference]:+.2f}" if reference else ""
        print(f"| `{name}` | {fastest[name]:.2f} | {more} |")


if __name__ == "__main__":
    main()
