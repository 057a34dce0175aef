"""Losses of pretraining by bands of timesteps, and the picture of its progress."""

from pathlib import Path

import imageio.v3 as imageio
import matplotlib.pyplot
import numpy as np
import pytest
import torch

from nnunet_diffusion_ensemble.training.log import TRAIN_BANDS, VAL_BANDS, PretrainingLogger, TimestepBands

BANDS = TimestepBands((2, 5), 10)


def test_bands_cover_the_process_without_gap_or_overlap():
    assert BANDS.names == ["0-1", "2-4", "5-9"]
    assert BANDS.shares.tolist() == [0.2, 0.3, 0.5]


def test_without_inner_edges_there_is_one_band():
    assert TimestepBands((), 10).names == ["0-9"]


def test_losses_are_added_up_in_the_band_of_their_timestep():
    timesteps = torch.tensor([0, 1, 2, 4, 5, 9, 9])
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    assert BANDS.totals(timesteps, losses).tolist() == [[2, 2, 3], [3, 12, 112]]


def test_a_band_without_timestep_counts_nothing():
    assert BANDS.totals(torch.tensor([3]), torch.tensor([7.0])).tolist() == [[0, 1, 0], [0, 7, 0]]


def test_every_held_out_image_has_its_own_timestep_in_every_band():
    whole = BANDS.fixed_timesteps(0, 7)
    assert [whole.min(1).values.tolist(), whole.max(1).values.tolist()] == [[0, 2, 5], [1, 4, 9]]
    torch.testing.assert_close(torch.cat([BANDS.fixed_timesteps(0, 4), BANDS.fixed_timesteps(4, 3)], dim=1), whole)


@pytest.mark.parametrize("num_images", [16, 64])
def test_the_timesteps_of_a_set_are_spread_evenly_over_a_band(num_images):
    # The golden ratio's multiples leave no tenth of the band with more than two images too many or too few.
    found = TimestepBands((), 1000).fixed_timesteps(0, num_images)[0].numpy()
    counts = np.histogram(found, 10, (0, 1000))[0]
    assert np.abs(counts - num_images / 10).max() <= 2


# ---- log


def logged(num_epochs: int) -> PretrainingLogger:
    logger = PretrainingLogger(BANDS)
    for epoch in range(num_epochs):
        for key in ("train_losses", "val_losses", "lrs", "epoch_start_timestamps", "epoch_end_timestamps"):
            logger.log(key, 1.0 + epoch, epoch)
        logger.log(TRAIN_BANDS, [0.5, 0.25, float("nan")], epoch)
        logger.log(VAL_BANDS, [0.6, 0.3, 0.1], epoch)
    return logger


def test_the_log_has_no_dice():
    assert not [key for key in PretrainingLogger(BANDS).my_fantastic_logging if "dice" in key]


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_progress_picture_is_drawn_and_no_partial_one_left(num_epochs, tmp_path: Path):
    logged(num_epochs).plot_progress_png(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["progress.png"]
    assert imageio.imread(tmp_path / "progress.png").std() > 0


def test_a_progress_picture_that_cannot_be_written_leaves_no_figure_in_memory(tmp_path: Path):
    of_others = matplotlib.pyplot.get_fignums()
    with pytest.raises(OSError):
        logged(1).plot_progress_png(str(tmp_path / "no_folder"))
    assert matplotlib.pyplot.get_fignums() == of_others


def test_progress_picture_leaves_an_epoch_in_progress_out(tmp_path: Path):
    logger = logged(2)
    logger.log("lrs", 0.1, 2)
    logger.plot_progress_png(str(tmp_path))
    assert (tmp_path / "progress.png").is_file()
