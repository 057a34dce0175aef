"""Where the commands of the how-to pages and of the README are run, for tests/docs/test_how_to.py."""

from nnunet_commands import ENSEMBLE, PRETRAIN
from twenty_questions import QUESTIONS

PLANS = "nnUNetDiffusionEnsemblePlans"
DATA = "Dataset001_Lungs"
RESULTS = f"nnUNet_results/{DATA}"
PLANNED = f"nnUNet_preprocessed/{DATA}/{PLANS}.json"
MODEL = f"{RESULTS}/{ENSEMBLE}__{PLANS}__2d"
OF_64 = "nnUNet_preprocessed/Dataset064_Lungs"
TABLE = "OUT/uncertainty.csv"

# What the commands of a page are run as: the rest of their placeholders are files of these names. Numbers that say how
# long something takes are smaller.
SMALLER = {
    "--images DIR --masks DIR --unlabelled DIR": "--images images --masks masks --unlabelled unlabelled",
    "--labels 1 3 6 12 24": "--labels 1",
    "--seeds 0 1 2": "--seeds 0",
    "-f $fold": "-f 2",
    "--batch-size 12 --epochs 6 --iterations 100": "--batch-size 2 --epochs 1 --iterations 10",
    "--batch-size 4 --epochs 3 --iterations 100": "--batch-size 2 --epochs 1 --iterations 2",
}
# What is added, so that it is run by this process: on the CPU, without workers.
ADDED = {
    r"nnunet-diffusion (plan|preprocess|self-train) ": "-np 1",
    r"nnunet-diffusion (predict|calibrate|few-label|distil|self-train) ": "-device cpu",
    r"nnunet-diffusion sample ": "--steps 2",
    r"nnUNetv2_train ": "-device cpu",
    r"nnUNetv2_predict ": "-device cpu -npp 0 -nps 0",
}

# Commands in the order in which a user comes to them, each with a file that it writes.
PLANNING = {
    "nnunet-diffusion convert Dataset001_Lungs --images DIR --masks DIR --unlabelled DIR": f"nnUNet_raw/{DATA}",
    "nnunet-diffusion plan -d 1 --timesteps 1 50 200 400 --epochs 20": PLANNED,
    "nnunet-diffusion plan -d 1 --mirror-axes -1": PLANNED,
    "nnunet-diffusion plan -d 1 --timesteps 1 50": PLANNED,
    "nnunet-diffusion plan -d 1 --images-per-pass 8 --batch-size 2": PLANNED,
    "nnunet-diffusion plan -d 1 --pretraining-max-hours 18": PLANNED,
}
TRAINING = {
    "nnunet-diffusion preprocess -d 1 -c 2d -np 16": f"nnUNet_preprocessed/{DATA}/nnUNetPlans_2d/case_0.pkl",
    f"nnUNetv2_train 1 2d all -tr {PRETRAIN} -p {PLANS}": "CHECKPOINT",
    f"nnUNetv2_train 1 2d 0 -tr {ENSEMBLE} -p {PLANS}": f"{MODEL}/fold_0/checkpoint_final.pth",
    f"nnUNetv2_train 1 2d 0 -tr {ENSEMBLE} -p {PLANS} --val": f"{MODEL}/fold_0/validation/summary.json",
    f"nnUNetv2_train 1 2d 0 -tr EarlyTimestepsTrainer -p {PLANS}": (
        f"{RESULTS}/EarlyTimestepsTrainer__{PLANS}__2d/fold_0/checkpoint_final.pth"
    ),
    f"nnUNetv2_train 1 2d 0 -tr nnUNetTrainerShiftAugmentation -p {PLANS}": (
        f"{RESULTS}/nnUNetTrainerShiftAugmentation__{PLANS}__2d/fold_0/checkpoint_final.pth"
    ),
}
USING = {
    f"nnUNetv2_predict -d 1 -c 2d -f 0 -tr {ENSEMBLE} -p {PLANS} -i NEW_HOSPITAL -o OUT": "OUT/new.png",
    "nnunet-diffusion predict -d 1 -c 2d -f 0 -i NEW_HOSPITAL -o OUT": TABLE,
    "nnunet-diffusion postprocessing -d 1 -c 2d -f 0": f"{MODEL}/postprocessing_folds_0.pkl",
    f"nnUNetv2_apply_postprocessing -i OUT -o CLEANED -pp_pkl_file {MODEL}/postprocessing_folds_0.pkl": (
        "CLEANED/new.png"
    ),
    "nnunet-diffusion calibrate -d 1 -c 2d -f 0": f"{MODEL}/calibration_folds_0.json",
    "nnunet-diffusion predict -d 1 -c 2d -f 0 -i NEW -o OUT --postprocessed": TABLE,
    "nnunet-diffusion predict -d 1 -c 2d -f 0 -i NEW -o OUT --review-below 0.9 --calibrated": TABLE,
    f"nnUNetv2_export_model_to_zip -d 1 -o model.zip -c 2d -f 0 -tr {ENSEMBLE} -p {PLANS}": "model.zip",
    "nnUNetv2_install_pretrained_model_from_zip model.zip": f"{MODEL}/plans.json",
    "nnunet-diffusion predict -d 1 -c 2d -f 0 -i IMAGES -o OUT": TABLE,
}
STUDENTS = {
    "nnunet-diffusion distil -d 1 -c 2d -f 0 --fold 0": (
        f"{RESULTS}/nnUNetTrainer__{PLANS}Distilled__2d/fold_0/checkpoint_final.pth"
    ),
    f"nnUNetv2_predict -d 1 -c 2d -f 0 -tr nnUNetTrainer -p {PLANS}Distilled -i IMAGES -o OUT": "OUT/new.png",
    "nnunet-diffusion self-train -d 1 -c 2d -f 0 -o OUT --number 101 --images NEW_HOSPITAL --dry-run": (
        "OUT/round_1/images.png"
    ),
    "nnunet-diffusion self-train -d 1 -c 2d -f 0 -o OUT --number 101 --images NEW_HOSPITAL": (
        f"nnUNet_results/Dataset101_LungsSelfTrained1/DiffusionEnsembleSelfTrainer__{PLANS}__2d/fold_0/"
        "checkpoint_final.pth"
    ),
}
GIVING_AWAY = {
    "nnunet-diffusion sample CHECKPOINT samples.png": "samples.png",
    "nnunet-diffusion export CHECKPOINT DENOISER.pth --half": "DENOISER.pth",
    "nnunet-diffusion export CHECKPOINT denoiser.pth --half": "denoiser.pth",
    "nnunet-diffusion export CHECKPOINT denoiser.safetensors": "denoiser.safetensors",
    "nnunet-diffusion sample denoiser.pth samples.png": "samples.png",
    "nnunet-diffusion plan -d 2 --denoiser denoiser.pth": f"nnUNet_preprocessed/Dataset002_Lungs/{PLANS}.json",
    "nnunet-diffusion plan -d 2 --denoiser CHECKPOINT": f"nnUNet_preprocessed/Dataset002_Lungs/{PLANS}.json",
    "nnunet-diffusion export CHECKPOINT FOLDED.pth --timestep 50": "FOLDED.pth",
    "nnunet-diffusion export CHECKPOINT folded.pth --timestep 50": "folded.pth",
    f"nnUNetv2_train 1 2d 0 -p {PLANS} -pretrained_weights folded.pth": (
        f"{RESULTS}/nnUNetTrainer__{PLANS}__2d/fold_0/checkpoint_final.pth"
    ),
}
COMPARING = {
    "nnunet-diffusion benchmark SPEC.yaml --dry-run": None,
    "nnunet-diffusion benchmark SPEC.yaml": "RESULTS/results.csv",
    "nnunet-diffusion benchmark SPEC.yaml --verify": None,
    "nnunet-diffusion report RESULTS": "RESULTS/report/report.html",
    "nnunet-diffusion join RESULTS -o HOSPITAL_A.zip": "HOSPITAL_A.zip",
    "nnunet-diffusion join HOSPITAL_A.zip RESULTS -o JOINED": "JOINED/results.csv",
    "nnunet-diffusion report JOINED": "JOINED/report/report.html",
    "nnunet-diffusion few-label -d 1 -c 2d --labels 1 3 6 12 24 --seeds 0 1 2 --trainers DiffusionEnsembleTrainer "
    "TEDMTrainer ScratchTrainer nnUNetTrainer:nnUNetResEncUNetMPlans --benchmark domains.yaml -o STUDY": (
        "STUDY/benchmark/results.csv"
    ),
}
OF_XRAYS = {
    "nnunet-diffusion plan -d 64 -p S12 --denoiser chest-xray-64 --batch-size 12 --epochs 6 --iterations 100 "
    "--no-fine-tune-denoiser": f"{OF_64}/S12.json",
    "nnunet-diffusion preprocess -d 64 -p S12 -c 2d": f"{OF_64}/nnUNetPlans_2d/case_0.pkl",
    "nnunet-diffusion few-label -d 64 -p S12 --labels 6 --seeds 0 1 2 --trainers DiffusionEnsembleTrainer "
    "--splits DATA/few_label_splits.json -o WORK/study -device cpu": "WORK/study/label_orders.json",
    "nnunet-diffusion calibrate -d 64 -c 2d -p S12 -f $fold -device cpu": (
        f"nnUNet_results/Dataset064_Lungs/{ENSEMBLE}__S12__2d/calibration_folds_2.json"
    ),
    "nnunet-diffusion benchmark WORK/trust.yaml": "WORK/trust/predicted_dice.csv",
    "nnunet-diffusion report WORK/trust": "WORK/trust/report/report.html",
    "nnunet-diffusion plan -d 64 -p Short --denoiser chest-xray-64 --batch-size 4 --epochs 3 --iterations 100": (
        f"{OF_64}/Short.json"
    ),
    "nnunet-diffusion preprocess -d 64 -p Short -c 2d": f"{OF_64}/nnUNetPlans_2d/case_0.pkl",
    "nnUNetv2_train 64 2d 2 -tr TEDMTrainer -p Short -device cpu": (
        "nnUNet_results/Dataset064_Lungs/TEDMTrainer__Short__2d/fold_2/checkpoint_final.pth"
    ),
}
SERVING = ("nnunet-diffusion app", "nnunet-diffusion app -m RESULTS_FOLDER")
HERE = (*PLANNING, *TRAINING, *USING, *STUDENTS, *GIVING_AWAY, *COMPARING, *OF_XRAYS, *SERVING)
ELSEWHERE = {
    "tests/docs/test_how_to.py::test_from_folders_of_images_to_a_report": (  # of RESULTS
        "nnunet-diffusion report OUTPUT",
        "nnunet-diffusion report STUDY/benchmark",
    ),
    "tests/docs/test_getting_started.py::test_short_commands_run_one_after_the_other": (
        "nnunet-diffusion doctor -d 1",
        "nnunet-diffusion plan -d 1",
        "nnunet-diffusion preprocess -d 1 -c 2d",
    ),
    "tests/slow/test_shards.py::chain": ("nnunet-diffusion pack XRAYS -o $nnUNet_raw/Dataset001_Lungs/imagesUn",),
    "tests/data/test_pack.py::test_the_command_says_what_it_did": (
        "nnunet-diffusion pack VOLUMES -o $nnUNet_raw/Dataset001_Lungs/imagesUn --cases-per-shard 32",
    ),
    "tests/slow/nnunet_commands.py::registration": (
        "nnunet-diffusion register",
        "nnunet-diffusion register --undo",
    ),
    "tests/slow/test_demo.py::test_with_the_denoiser_that_ships_few_iterations_beat_the_mean_shape": (
        "nnunet-diffusion demo --quick",
    ),
    "tests/slow/xray_chain.py::train_chain": ("nnUNetv2_plan_and_preprocess -d 1 -pl DiffusionEnsemblePlanner -c 2d",),
    "tests/slow/test_borrowed_denoiser.py::borrowing": ("nnunet-diffusion plan -d 1 --unlabelled",),
    "tests/planning/test_for_foreign.py::test_plans_hold_the_config_and_no_path_of_the_model": (
        "nnunet-diffusion plan -d 1 --denoiser diffusers:FOLDER",
    ),
    "tests/denoiser/test_nnssl.py::exported": (
        "nnunet-diffusion export CHECKPOINT denoiser_nnssl.pth --format nnssl --timestep 50",  # of volumes only
    ),
    "tests/slow/test_few_label_command.py::results": (  # of 2d without saying so
        "nnunet-diffusion few-label -d 1 --labels 1 3 6 12 24 --seeds 0 1 2 --benchmark DOMAINS.yaml -o STUDY "
        "--trainers DiffusionEnsembleTrainer TEDMTrainer ScratchTrainer nnUNetTrainer",
        "nnunet-diffusion few-label -d 1 -c 2d --labels 1 3 6 12 24 --seeds 0 1 2 --part $SLURM_ARRAY_TASK_ID "
        "--parts 8 --trainers DiffusionEnsembleTrainer ScratchTrainer nnUNetTrainer --benchmark domains.yaml -o study",
        "nnunet-diffusion train ... --minutes 0.75 --clock cpu",  # it is what runs in it
    ),
    "tests/data/test_dicom_dataset.py::test_the_command_converts": (
        "nnunet-diffusion convert Dataset001_Lungs --dicom --unlabelled ARCHIVE --images DIR --masks DIR "
        "--mapping whose.csv",
    ),
    "tests/prediction/test_from_dicom.py::test_the_command_takes_codes_with_dicom_only": (
        "nnunet-diffusion predict --dicom -i STUDIES -o OUTPUT -m MODEL --segment-codes codes.json",
    ),
}
# Not run as they stand, with the test that comes next to it. A reason is said once for several.
NOT_RUN = {
    "four GPUs": (
        "tests/slow/test_two_processes.py::test_torchrun_trains_on_two_machines",
        (f"nnUNetv2_train 1 2d all -tr {PRETRAIN} -p {PLANS} -num_gpus 4 --c",),
    ),
    "a part of a command, which stands whole in dicom.md": (
        "tests/data/test_dicom_dataset.py::test_the_command_converts",
        ("nnunet-diffusion convert --dicom",),
    ),
    "a part of a command, of the library of an example": (
        "tests/docs/test_extending.py::test_an_example_runs_as_it_stands",
        ("nnunet-diffusion plan --denoiser my_ddpm:FOLDER",),
    ),
    "mistakes, with what the program says of them": (
        "tests/test_twenty_mistakes.py::test_the_program_says_what_to_do",
        tuple(answer.command for question in QUESTIONS for answer in question.answers),
    ),
}
