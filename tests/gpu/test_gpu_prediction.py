"""Prediction on a GPU: what a CPU predicts."""

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_diffusion_ensemble.trainers.diffusion_ensemble_trainer import DiffusionEnsembleTrainer
from nnunet_diffusion_ensemble.trainers.published_trainers import LEDMTrainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")]


@pytest.mark.parametrize("trainer_class", [DiffusionEnsembleTrainer, LEDMTrainer])
def test_the_network_predicts_the_same_in_float32(trainer_class, start, randn) -> None:
    images, found = randn(3, 1, 16, 16), []
    for device in ("cpu", "cuda"):
        network = start(trainer_class, device).plain_network.eval()
        with torch.no_grad():
            found.append(network(images.to(device)).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-3)


def test_nnunets_predictor_segments_the_same(start, randn) -> None:
    image, probabilities = randn(1, 1, 24, 40), []
    for device in ("cpu", "cuda"):
        trainer = start(DiffusionEnsembleTrainer, device)
        predictor = nnUNetPredictor(device=trainer.device, perform_everything_on_device=True, allow_tqdm=False)
        predictor.manual_initialization(
            trainer.plain_network,
            trainer.plans_manager,
            trainer.configuration_manager,
            None,
            trainer.dataset_json,
            "DiffusionEnsembleTrainer",
            (0, 1),
        )
        logits = predictor.predict_sliding_window_return_logits(image)
        probabilities.append(torch.as_tensor(logits).float().cpu().softmax(0))
    torch.testing.assert_close(probabilities[1], probabilities[0], rtol=0, atol=0.02)  # the GPU computes in float16


def test_the_fixed_noise_of_another_size_is_made_where_the_images_are(start, randn) -> None:
    network = start(DiffusionEnsembleTrainer).plain_network.eval()
    with torch.no_grad():
        assert network(randn(2, 1, 32, 32).to("cuda")).device.type == "cuda"
