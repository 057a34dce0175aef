"""The twenty questions most asked of nnU-Net and its forks, and what our commands answer; the docs are made from it."""

from dataclasses import dataclass

NNUNET = "MIC-DKFZ/nnUNet"
TRAIN = "nnUNetv2_train 1 2d 0 -tr DiffusionEnsembleTrainer -p nnUNetDiffusionEnsemblePlans -device cpu"


@dataclass(frozen=True)
class Answer:
    """What a person types, and what must come.

    Attributes:
        case: name of what is wrong, for the test that makes it.
        command: as typed.
        says: parts of the answer, in their order; ` ... ` stands for what lies between.
    """

    case: str
    command: str
    says: str


@dataclass(frozen=True)
class Question:
    """A question in a word or two, public threads that ask it, and our answers."""

    asked: str
    threads: tuple[str, ...]
    answers: tuple[Answer, ...]


def asked(
    question: str, numbers: tuple[int, ...], *answers: tuple[str, str, str], others: tuple[str, ...] = ()
) -> Question:
    threads = (*(f"{NNUNET}/issues/{number}" for number in numbers), *others)
    return Question(question, threads, tuple(Answer(*answer) for answer in answers))


QUESTIONS = (
    asked(
        "nnUNet_raw is not defined",
        (319, 738, 2108),
        (
            "a variable that is not set",
            "nnunet-diffusion plan -d 1",
            "The variable nnUNet_raw is not set ... export nnUNet_raw=/path/to/nnUNet_raw",
        ),
        (
            "a variable that is misspelt",
            "nnunet-diffusion preprocess -d 1 -c 2d",
            "The variable nnUNet_preprocessed is not set (nnUNet_preprpcessed is set: is it misspelt?)",
        ),
        others=("felixkrones/ECG-Digitiser/issues/12",),
    ),
    asked(
        "Could not find a dataset with the ID 1, although it is there",
        (1525, 2343, 2527),
        (
            "a folder without three digits",
            "nnunet-diffusion plan -d 1",
            "There is no data set 1 ... Rename ... to Dataset001_Doors: three digits and a name. Looked in nnUNet_raw=",
        ),
        (
            "a number that two data sets have",
            "nnunet-diffusion plan -d 1",
            "2 data sets have the number 1: ... Give one of them another number",
        ),
    ),
    asked(
        "My images are not found",
        (1358, 193, 2402),
        (
            "images without the number of the channel",
            "nnunet-diffusion plan -d 1",
            "has no labelled image in imagesTr. It holds a.nii.gz and 2 more, but images are named CASE_0000.nii.gz",
        ),
        (
            "one image without the number of the channel",
            "nnunet-diffusion plan -d 1",
            "imagesTr/b.nii.gz is not named CASE_0000.nii.gz, so nnU-Net does not see it",
        ),
    ),
    asked(
        "Did not find the expected number of training cases",
        (2346, 2436),
        (
            "another number of cases",
            "nnunet-diffusion plan -d 1",
            "dataset.json: numTraining is 100, but there are 3 labelled cases",
        ),
    ),
    asked(
        "Can it read JPEG?",
        (2923,),
        (
            "JPEG in dataset.json",
            "nnunet-diffusion plan -d 1",
            "file_ending .jpg is none that nnU-Net reads ... nnunet-diffusion convert makes PNG of JPEG",
        ),
        (
            "JPEG in the folder",
            "nnunet-diffusion plan -d 1",
            "It holds a_0000.jpg ... nnunet-diffusion convert makes such a data set of pictures with any names, JPEG "
            "too",
        ),
    ),
    asked(
        "My PNG is taken for an image of three or four channels",
        (2017, 2077, 2177, 2942),
        (
            "a PNG with transparency",
            "nnunet-diffusion plan -d 1",
            "a_0000.png holds 4 channel(s), dataset.json has 1 in channel_names (3 are colours, 4 colours and "
            "transparency: nnunet-diffusion convert",
        ),
    ),
    asked(
        "Unexpected labels: 0 and 255",
        (1678, 1777, 1247),
        (
            "masks of 0 and 255",
            "nnunet-diffusion plan -d 1",
            "labelsTr/a.nii.gz holds the values 0, 255; allowed are 0, 1: convert the masks, e.g. with "
            "nnunet-diffusion convert",
        ),
    ),
    asked(
        "Do labels have to be consecutive?",
        (154, 982, 1757),
        (
            "labels with a gap",
            "nnunet-diffusion plan -d 1",
            "label values have no gaps (0, 1, 2, ...); got 0, 2, where 1 is missing",
        ),
    ),
    asked(
        "Shape, spacing or direction mismatch between segmentation and image",
        (1381, 1913, 2218, 1287),
        (
            "a label map of another size",
            "nnunet-diffusion plan -d 1",
            "labelsTr/b.nii.gz is of size 6 x 12 x 11, the image",
        ),
        (
            "a label map of another spacing",
            "nnunet-diffusion plan -d 1",
            "labelsTr/b.nii.gz has the spacing 0.8 x 1.1 x 2.5, the image",
        ),
    ),
    asked(
        "The plans file is not found",
        (386, 1541, 2544),
        (
            "plans of another name",
            "nnunet-diffusion train 1 2d 0 --minutes 1 -p nnUNetResEncUNetMPlans -device cpu",
            "There are no plans ... nnUNetResEncUNetMPlans.json. Make them with nnunet-diffusion plan, or name those "
            "that are there: -p nnUNetDiffusionEnsemblePlans",
        ),
        (
            "-p forgotten, plans not there",
            "nnUNetv2_train 1 2d 0 -tr DiffusionEnsembleTrainer -device cpu",
            "The data set has no such plans. Make them with: nnunet-diffusion plan -d ID, or name those that it has: "
            "-p nnUNetDiffusionEnsemblePlans",
        ),
        (
            "-p forgotten, nnU-Net's own plans there",
            "nnUNetv2_train 1 2d 0 -tr DiffusionEnsembleTrainer -device cpu",
            "These plans have no 'diffusion' settings ... and train with `-p nnUNetDiffusionEnsemblePlans`",
        ),
    ),
    asked(
        "Training finds no preprocessed data",
        (135, 311),
        (
            "preprocessing left out",
            TRAIN,
            "holds no preprocessed case. Make them with: nnunet-diffusion preprocess -d 1 -c 2d -p "
            "nnUNetDiffusionEnsemblePlans",
        ),
    ),
    asked(
        "n_splits=5 is greater than the number of samples",
        (1933, 193),
        (
            "a fold that few cases do not have",
            TRAIN.replace("2d 0", "2d 4").replace("DiffusionEnsembleTrainer", "ScratchTrainer"),
            "There is no fold 4: 3 labelled case(s) give folds 0 to 2 ... Train one of them, or all.",
        ),
    ),
    asked(
        "Could not find requested nnunet trainer",
        (2080, 2150, 2345),
        (
            "a trainer that is mistyped",
            "nnunet-diffusion train 1 2d 0 --minutes 1 -tr DiffusionEnsembleTrainr -device cpu",
            "nnU-Net finds no trainer DiffusionEnsembleTrainr; did you mean DiffusionEnsembleTrainer? For one of your "
            "own, put the folder of its module into the variable nnUNet_extTrainer",
        ),
    ),
    asked(
        "Torch not compiled with CUDA enabled; no NVIDIA driver",
        (1365, 2783, 892),
        (
            "no GPU",
            TRAIN.removesuffix(" -device cpu"),
            "There is no device cuda here. Choose one of: cpu (-device cpu). This torch is built",
        ),
    ),
    asked(
        "CUDA out of memory",
        (337, 2075, 1387),
        (
            "a GPU without enough memory",
            TRAIN,
            "The memory of the GPU does not suffice: lower diffusion.ensemble.images_per_pass (now 64), then "
            "batch_size (now 2), then patch_size (now [16, 16])",
        ),
    ),
    asked(
        "One or more background workers are no longer alive",
        (1887, 2162, 2712, 2749),
        (
            "a worker that died",
            TRAIN,
            "A worker process has ended. What it printed stands above ... export nnUNet_n_proc_DA=2",
        ),
    ),
    asked(
        "torch.compile or Triton fails",
        (2115, 2349, 2457),
        (
            "a compiler that fails",
            TRAIN,
            "torch.compile does not work on this machine. Train without it: export nnUNet_compile=f",
        ),
    ),
    asked(
        "Pretrained weights do not fit",
        (1854, 2152),
        (
            "weights of another network",
            f"{TRAIN} -pretrained_weights other.pth",
            "The file of -pretrained_weights is of another network ... nnunet-diffusion plan -d ID --denoiser FILE",
        ),
    ),
    asked(
        "There is no checkpoint_final.pth",
        (1818, 2231, 287),
        (
            "a training that was stopped",
            "nnunet-diffusion predict -i images -o out -m model -f 0 -device cpu",
            "checkpoint_final.pth. Train this fold to its end (nnUNetv2_train ... --c goes on), or name folds that are "
            "trained, and their checkpoint; there is -f 0 -chk checkpoint_best.pth",
        ),
    ),
    asked(
        "Prediction wants other channels or files",
        (513, 1596, 1607, 2696),
        (
            "a channel too many",
            "nnunet-diffusion predict -i images -o out -m model -f 0 -device cpu",
            "case a has 2 channel file(s), expected 1",
        ),
        (
            "files of another ending",
            "nnunet-diffusion predict -i images -o out -m model -f 0 -device cpu",
            "holds no image named CASE_0000.nii.gz, which the model was trained on; it holds a_0000.png",
        ),
    ),
)
