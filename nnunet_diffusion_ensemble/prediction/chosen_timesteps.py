"""Plans for other timesteps than a model was trained with, which one head for all of them allows."""

from collections.abc import Sequence

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.method import MEAN_PREDICTION, PLANS_KEY, DiffusionMethod
from nnunet_diffusion_ensemble.method.in_plans import plans_with


def averaging_over(timesteps: Sequence[int], plans: PlansManager, configuration: str, trainer: str) -> PlansManager:
    """A copy of the plans of a trained model that averages over these timesteps.

    Args:
        timesteps: one or more; their noise is that of the positions they have here.
        plans: of the model.
        configuration: e.g. `2d`.
        trainer: its name, for the message.

    Raises:
        ValueError: the model does not average over timesteps, or there are none such in its diffusion process.
    """
    settings = plans.get_configuration(configuration).configuration
    if PLANS_KEY not in settings or DiffusionMethod.from_plans(settings).ensemble.fusion != MEAN_PREDICTION:
        raise ValueError(f"A model of {trainer} does not average over timesteps, so none can be chosen.")
    changes = {"ensemble.timesteps": tuple(timesteps), "training.timesteps_per_image": None}
    return PlansManager(plans_with(plans.plans, configuration, lambda method: changes))
