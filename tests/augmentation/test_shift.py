"""nnU-Net's real loader and transforms: where the middle of an image ends up, with its augmentation and with ours."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.nnunet.random_binary_operator import ApplyRandomBinaryOperatorTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_diffusion_ensemble.augmentation.intensity import RangeIntensityTransform
from nnunet_diffusion_ensemble.augmentation.shift import initial_patch_size, shift_transforms
from nnunet_diffusion_ensemble.augmentation.spatial import ShiftSpatialTransform
from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.diffusion_pretrain_trainer import DiffusionPretrainTrainer
from nnunet_diffusion_ensemble.trainers.shift_augmentation_trainer import nnUNetTrainerShiftAugmentation

SIZE, NUM_BATCHES = 32, 60


def save_centred_squares(folder: Path) -> None:
    """Images as large as the patch with a labelled square of 8 pixels in their middle."""
    data, segmentation = np.zeros((1, 1, SIZE, SIZE), np.float32), np.zeros((1, 1, SIZE, SIZE), np.int16)
    data[..., 12:20, 12:20], segmentation[..., 12:20, 12:20] = 2, 1
    properties = {"class_locations": {1: np.argwhere(segmentation == 1)}, "spacing": [999.0, 1.0, 1.0]}
    layout = {"chunks": segmentation.shape, "blocks": segmentation.shape}
    names = [file.with_suffix("") for file in sorted(folder.glob("*.pkl"))]
    for file in folder.iterdir():
        file.unlink()
    for name in names:
        nnUNetDatasetBlosc2.save_case(data, segmentation, properties, str(name), **layout)


def middles_of_squares(trainer: Any, forced_foreground: float = 0.0) -> torch.Tensor:
    """Distance of the square's middle from that of the patch, in pixels along each axis, (images, 2).

    `forced_foreground`: share of the images whose patch the loader lays around a foreground pixel.
    """
    trainer.oversample_foreground_percent = forced_foreground
    save_centred_squares(Path(trainer.preprocessed_dataset_folder))
    trainer.initialize()
    np.random.seed(0)
    torch.manual_seed(0)
    batches, _ = trainer.get_dataloaders()
    found = []
    for _ in range(NUM_BATCHES):
        target = next(batches)["target"]
        for square in (target[0] if isinstance(target, list) else target)[:, 0]:
            found.append((square == 1).nonzero().float().mean(0) - (SIZE - 1) / 2)
    return torch.stack(found)


PATCH = {"patch_size": [SIZE, SIZE]}


def test_nnunet_never_translates_an_image_that_the_patch_covers(make_trainer: Callable) -> None:
    """Rotation, scaling and mirroring keep the middle; the loader's corner varies by a pixel."""
    assert middles_of_squares(make_trainer(nnUNetTrainer, **PATCH)).abs().max() <= 1.0


def test_around_a_foreground_pixel_nnunets_loader_moves_images_up_and_left_alone(
    make_trainer: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pixel below or right of the middle is brought there, by 3.5 pixels at most; one above or left is not."""
    trainer = make_trainer(nnUNetTrainer, **PATCH)
    own = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    still = (0.0, *own[1:3], ())
    monkeypatch.setattr(trainer, "configure_rotation_dummyDA_mirroring_and_inital_patch_size", lambda: still)
    distances = middles_of_squares(trainer, forced_foreground=1.0)
    assert distances.max() <= 1.5
    assert (distances.amin(0) < -3).all()


@pytest.mark.parametrize(
    ("trainer_class", "options"),
    [(nnUNetTrainerShiftAugmentation, {}), (DiffusionEnsembleTrainer, {"training.augmentation": "shift"})],
)
def test_the_shift_augmentation_translates_by_up_to_fifteen_percent(
    make_trainer: Callable, trainer_class: type, options: dict
) -> None:
    """Of the image, which is then magnified by up to exp(0.3 + 0.15), so that its middle moves by so much more."""
    distances = middles_of_squares(make_trainer(trainer_class, options, **PATCH)).abs()
    share = 0.15 * SIZE
    assert (distances.amax(0) > 0.9 * share).all()
    assert (distances <= math.exp(0.45) * share * math.sqrt(2) + 1.5).all()  # turned; the loader's pixel; rounding
    assert (distances.mean(0) - share / 2).abs().max() < 0.15 * share  # evenly drawn


def test_by_default_our_trainers_have_nnunets_augmentation(make_trainer: Callable) -> None:
    assert middles_of_squares(make_trainer(DiffusionEnsembleTrainer, **PATCH)).abs().max() <= 1.0


def test_everything_but_place_and_intensity_stays_nnunets() -> None:
    """Cascade, regions, masks of the normalisation and deep supervision, in their order."""
    arguments: dict[str, Any] = {
        "use_mask_for_norm": [True],
        "is_cascaded": True,
        "foreground_labels": (1, 2),
        "regions": [(1, 2), (2,)],
        "ignore_label": 3,
    }
    nnunets = nnUNetTrainer.get_training_transforms((8, 16, 16), (-1, 1), [[1, 1, 1]], (0, 1), True, **arguments)
    ours = shift_transforms(nnunets.transforms).transforms
    replaced = [t for t in nnunets.transforms[3:] if isinstance(t, RandomTransform)][:7]
    kept = [t for t in nnunets.transforms if t not in replaced]
    assert [type(t) for t in ours[:4]] == [
        type(kept[0]),
        ShiftSpatialTransform,
        type(kept[2]),
        RangeIntensityTransform,
    ]
    assert ours[4:] == kept[3:]
    assert any(isinstance(getattr(t, "transform", None), ApplyRandomBinaryOperatorTransform) for t in ours)


@pytest.mark.parametrize("dummy_2d", [False, True])
def test_regions_channels_and_an_ignore_label_come_out_of_a_volume(dummy_2d: bool) -> None:
    """Padding counts as background, as it does with nnU-Net: it is in no region, and not ignored."""
    image = torch.rand(2, 6, 24, 24, generator=torch.Generator().manual_seed(0))
    segmentation = torch.ones(1, 6, 24, 24, dtype=torch.int16)
    segmentation[..., 12:, :] = 3
    nnunets = nnUNetTrainer.get_training_transforms(
        (6, 16, 16), (-1, 1), None, (0, 1, 2), dummy_2d, use_mask_for_norm=[False, False],
        foreground_labels=(1, 2), regions=[(1, 2), (2,)], ignore_label=3,
    )  # fmt: skip
    np.random.seed(0)
    result = shift_transforms(nnunets.transforms)(image=image, segmentation=segmentation)
    assert result["image"].shape == (2, 6, 16, 16) and result["image"].isfinite().all()
    assert result["segmentation"].shape == (3, 6, 16, 16)
    assert result["segmentation"][0].any() and not result["segmentation"][1].any() and result["segmentation"][2].any()
    assert not (result["segmentation"][0].bool() & result["segmentation"][2].bool()).any()


def test_what_the_normalisation_masked_stays_zero() -> None:
    """With `use_mask_for_norm` nnU-Net sets what lies outside to 0, in training and in prediction."""
    nnunets = nnUNetTrainer.get_training_transforms((16, 16), (-1, 1), None, (), False, use_mask_for_norm=[True])
    segmentation = torch.zeros(1, 16, 16, dtype=torch.int16)
    segmentation[..., :8] = -1
    np.random.seed(0)
    result = shift_transforms(nnunets.transforms)(image=torch.rand(1, 16, 16) + 1, segmentation=segmentation)
    assert 0 < (result["image"] == 0).float().mean() < 1


def test_the_loader_brings_what_lies_around_the_patch() -> None:
    """64 x 64 turned by 15 degrees is 64 (cos + sin) = 78.4 wide, at nnU-Net's scale 92.2; and 10 either way."""
    assert initial_patch_size((64, 64)).tolist() == [92 + 20, 92 + 20]


def test_thick_slices_are_not_cut_out_beyond_the_patch(make_trainer: Callable) -> None:
    trainer = make_trainer(nnUNetTrainerShiftAugmentation, patch_size=[4, 32, 32])
    _, dummy_2d, size, _ = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert dummy_2d and size[0] == 4 and size[1] > 32


def test_pretraining_changes_intensities_with_the_shift_augmentation_alone(make_trainer: Callable) -> None:
    kinds = []
    for name in ("nnunet", "shift"):
        trainer = make_trainer(DiffusionPretrainTrainer, {"pretraining.augmentation": name})
        transforms = trainer.get_training_transforms((16, 16), (-1.0, 1.0), None, (0, 1), False).transforms
        kinds.append({type(t) for t in transforms})
    assert RangeIntensityTransform not in kinds[0] and ShiftSpatialTransform not in kinds[0]
    assert {RangeIntensityTransform, ShiftSpatialTransform} <= kinds[1]


def test_an_unknown_augmentation_is_refused(make_trainer: Callable) -> None:
    with pytest.raises(ValueError, match=r"training\.augmentation must be nnunet or shift; got 'strong'"):
        make_trainer(DiffusionEnsembleTrainer, {"training.augmentation": "strong"})
