"""Planner: nnU-Net's own topology, and all settings of the method in the plans."""

import numpy as np
import pytest
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    ResEncUNetPlanner,
)
from planning_data import make_dataset, plan
from shards_data import write_shard

from nnunet_diffusion_ensemble.method import DiffusionMethod
from nnunet_diffusion_ensemble.planning.options import PlanningOptions
from nnunet_diffusion_ensemble.planning.planner import DiffusionEnsemblePlanner


@pytest.mark.parametrize(
    ("shape", "spacing", "channels"),
    [
        ((1, 120, 100), (999.0, 1.0, 1.0), {"0": "X-ray"}),
        ((24, 40, 36), (1.0, 1.0, 1.0), {"0": "T1", "1": "T2"}),
        ((10, 64, 64), (5.0, 0.7, 0.7), {"0": "CT"}),
    ],
    ids=["2d", "3d two channels", "3d anisotropic"],
)
def test_topology_patch_and_batch_are_those_of_nnunets_residual_encoder_planner(
    tmp_path, monkeypatch, shape, spacing, channels
):
    name = make_dataset(tmp_path, monkeypatch, channels, shape, spacing)
    ours, stock = plan(DiffusionEnsemblePlanner(name)), plan(ResEncUNetPlanner(name))
    assert ours.keys() == stock.keys()
    for configuration, settings in stock.items():
        settings_of_ours = dict(ours[configuration])
        assert "diffusion" in settings_of_ours
        del settings_of_ours["diffusion"]
        assert settings_of_ours == settings


@pytest.mark.parametrize(
    ("channel_name", "scale", "shift"),
    [("MRI", 1.0, 0.0), ("CT", 1.0, 0.0), ("rescale_to_0_1", 2.0, -1.0), ("noNorm", 0.5, -1.5)],
)
def test_input_scaling_brings_each_normalisation_to_zero_mean_and_unit_range(
    tmp_path, monkeypatch, channel_name, scale, shift
):
    # noNorm: mean 3 and standard deviation 2 of the fingerprint become 0 and 1.
    name = make_dataset(tmp_path, monkeypatch, {"0": channel_name}, (1, 64, 64), (999.0, 1.0, 1.0))
    denoiser = plan(DiffusionEnsemblePlanner(name))["2d"]["diffusion"]["denoiser"]
    assert denoiser["input_scale"] == [scale]
    assert denoiser["input_shift"] == [shift]


def test_a_channel_that_is_the_same_everywhere_gets_a_finite_scale(tmp_path, monkeypatch):
    planner = DiffusionEnsemblePlanner(
        make_dataset(tmp_path, monkeypatch, {"0": "noNorm"}, (1, 64, 64), (999.0, 1.0, 1.0))
    )
    planner.dataset_fingerprint["foreground_intensity_properties_per_channel"]["0"]["std"] = 0.0
    assert np.isfinite(planner.denoiser_settings(["NoNormalization"]).input_scale).all()


def test_regions_are_averaged_as_sigmoids_and_labels_as_softmax(tmp_path, monkeypatch):
    regions = {"background": 0, "whole": [1, 2], "part": 2}
    size = (1, 64, 64), (999.0, 1.0, 1.0)
    with_regions = make_dataset(tmp_path / "a", monkeypatch, {"0": "MRI"}, *size, labels=regions)
    assert plan(DiffusionEnsemblePlanner(with_regions))["2d"]["diffusion"]["ensemble"]["averaging"] == "sigmoid"
    with_labels = make_dataset(tmp_path / "b", monkeypatch, {"0": "MRI"}, *size)
    assert plan(DiffusionEnsemblePlanner(with_labels))["2d"]["diffusion"]["ensemble"]["averaging"] == "softmax"


# Images of one patch each, 20 of them labelled: 5% of 20 is 1, of 400 is 20, of 800 is 40; allowed are 2 to 32.
@pytest.mark.parametrize(("num_unlabelled", "batch_size"), [(0, 2), (380, 20), (780, 32)])
def test_pretraining_batch_covers_five_per_cent_of_labelled_and_unlabelled_images(
    num_unlabelled, batch_size, tmp_path, monkeypatch
):
    size = (1, 64, 64), (999.0, 1.0, 1.0)
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, *size, num_unlabelled=num_unlabelled)
    planned = plan(DiffusionEnsemblePlanner(name))["2d"]
    assert planned["diffusion"]["pretraining"]["batch_size"] == batch_size
    assert planned["batch_size"] == 2  # 5% of 20 is 1, and nnU-Net never goes below 2


def test_unlabelled_cases_in_shards_are_counted(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 64, 64), (999.0, 1.0, 1.0), num_unlabelled=100)
    for shard in range(2):
        members = {f"packed{shard}_{i:03d}_0000.nii.gz": b"" for i in range(140)}
        write_shard(tmp_path / "raw" / name / "imagesUn" / f"{shard}.tar", members)
    planned = plan(DiffusionEnsemblePlanner(name))["2d"]
    assert planned["diffusion"]["pretraining"]["batch_size"] == 20  # 5% of 20 + 100 + 2 * 140


def test_labels_are_trained_on_with_the_shift_augmentation_unless_nnunets_is_asked_for(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 64, 64), (999.0, 1.0, 1.0))
    nnunets = PlanningOptions(method={"training.augmentation": "nnunet"})
    for options, expected in ((None, "shift"), (nnunets, "nnunet")):
        method = plan(DiffusionEnsemblePlanner(name, options=options))["2d"]["diffusion"]
        assert method["training"]["augmentation"] == expected
        assert method["pretraining"]["augmentation"] == "nnunet"


EIGHT, FOUR = [1, 10, 25, 50, 200, 400, 600, 800], [1, 10, 25, 50]
FINE_TUNED, FROZEN = (True, 0.0, 2e-4), (False, 0.0, 1e-4)


@pytest.mark.parametrize(
    ("options", "in_2d", "in_3d"),
    [
        ({}, (*FINE_TUNED, FOUR), (*FROZEN, EIGHT)),
        ({"training.fine_tune_denoiser": False}, (*FROZEN, EIGHT), (*FROZEN, EIGHT)),
        ({"training.fine_tune_denoiser": True}, (*FINE_TUNED, FOUR), (*FINE_TUNED, FOUR)),
        ({"training.head_first": 0.2}, (True, 0.2, 2e-4, FOUR), (False, 0.2, 1e-4, EIGHT)),
        ({"ensemble.timesteps": (200, 400)}, (*FINE_TUNED, [200, 400]), (*FROZEN, [200, 400])),
        ({"denoiser.num_diffusion_steps": 100}, (*FINE_TUNED, [0, 1, 2, 5]), (*FROZEN, [0, 1, 2, 5, 20, 40, 60, 80])),
    ],
)
def test_the_denoiser_is_fine_tuned_in_2d_unless_the_options_say_otherwise(
    options, in_2d, in_3d, tmp_path, monkeypatch
):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (24, 40, 36), (1.0, 1.0, 1.0))
    planned = plan(DiffusionEnsemblePlanner(name, options=PlanningOptions(method=options)))
    for configuration, expected in (("2d", in_2d), ("3d_fullres", in_3d)):
        method = planned[configuration]["diffusion"]
        training = method["training"]
        found = (training["fine_tune_denoiser"], training["head_first"], training["denoiser_learning_rate"])
        assert (*found, method["ensemble"]["timesteps"]) == expected


def test_a_batch_leaves_memory_for_the_head_where_the_denoiser_is_fine_tuned(tmp_path, monkeypatch):
    name, batches = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 64, 64), (999.0, 1.0, 1.0)), {}
    for tuned in (False, True):
        options = PlanningOptions(method={"training.fine_tune_denoiser": tuned})
        planner = DiffusionEnsemblePlanner(name, options=options)
        planner.max_dataset_covered = 1e6  # so that memory alone limits the batch
        planned = plan(planner)["2d"]
        batches[tuned] = planned["batch_size"]
    # The head keeps 128 and 32 feature maps twice. nnU-Net's estimate is inversely proportional to its batch.
    estimate = (
        planner.UNet_reference_val_2d * planner.UNet_reference_val_corresp_bs_2d / planner.images_in_memory(planned)
    )
    with_head = estimate + 2 * (128 + 32) * 64 * 64
    assert batches[True] == pytest.approx(batches[False] * estimate / with_head, rel=0.02)


def test_options_change_topology_batch_and_method(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 64, 64), (999.0, 1.0, 1.0))
    options = PlanningOptions(
        base_features=8,
        blocks_per_stage=2,
        batch_size=5,
        method={"ensemble.timesteps": (1, 50), "training.num_epochs": 7},
    )
    planned = plan(DiffusionEnsemblePlanner(name, options=options))["2d"]
    kwargs = planned["architecture"]["arch_kwargs"]
    assert kwargs["features_per_stage"] == [8, 16, 32, 64, 128]
    assert kwargs["n_blocks_per_stage"] == [2, 2, 2, 2, 2]
    assert planned["batch_size"] == 5
    assert planned["diffusion"]["ensemble"]["timesteps"] == [1, 50]
    assert planned["diffusion"]["training"]["num_epochs"] == 7


def test_every_configuration_can_be_read_back(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (24, 40, 36), (1.0, 1.0, 1.0))
    planned = plan(DiffusionEnsemblePlanner(name))
    for configuration in planned.values():
        method = DiffusionMethod.from_plans(configuration)
        assert method.to_plans() == configuration["diffusion"]


def test_own_spacing_gets_its_own_preprocessed_data(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (24, 40, 36), (1.0, 1.0, 1.0))
    shared = plan(DiffusionEnsemblePlanner(name))["3d_fullres"]
    assert shared["data_identifier"] == "nnUNetPlans_3d_fullres"
    planner = DiffusionEnsemblePlanner(name, plans_name="Coarse", overwrite_target_spacing=[2.0, 2.0, 2.0])
    assert plan(planner)["3d_fullres"]["data_identifier"] == "Coarse_3d_fullres"


def test_2d_images_are_resampled_to_the_size_that_the_user_wants(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 2048, 1024), (999.0, 1.0, 1.0))
    options = PlanningOptions(image_size=256)
    planned = plan(DiffusionEnsemblePlanner(name, plans_name="Whole", options=options))["2d"]
    assert planned["spacing"] == [8.0, 8.0]
    assert planned["median_image_size_in_voxels"] == [256, 128]
    assert all(patch >= size for patch, size in zip(planned["patch_size"], (256, 128), strict=True))
    assert planned["data_identifier"] == "Whole_2d"


def test_volumes_have_no_image_size_to_choose(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (24, 40, 36), (3.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"image_size is for 2D images, but those of .* have 24 slices"):
        plan(DiffusionEnsemblePlanner(name, options=PlanningOptions(image_size=20)))


def test_misnamed_unlabelled_image_is_refused_at_planning(tmp_path, monkeypatch):
    name = make_dataset(tmp_path, monkeypatch, {"0": "MRI"}, (1, 64, 64), (999.0, 1.0, 1.0))
    (tmp_path / "raw" / name / "imagesUn" / "scan.nii.gz").touch()
    with pytest.raises(ValueError, match=r"scan\.nii\.gz"):
        DiffusionEnsemblePlanner(name)
