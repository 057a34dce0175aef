"""Plans with other settings of the method."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_diffusion_ensemble.method.denoiser import PLANS_KEY
from nnunet_diffusion_ensemble.method.whole import DiffusionMethod


def plans_with(
    plans: Mapping[str, Any], configuration: str, changes_to: Callable[[DiffusionMethod], Mapping[str, Any]]
) -> dict[str, Any]:
    """A copy of the plans with changed settings of the method.

    Args:
        plans: of `DiffusionEnsemblePlanner`.
        configuration: e.g. `2d`.
        changes_to: from the settings of the plans to changed values by dotted path, e.g. `{"training.num_epochs": 9}`.

    Raises:
        ValueError: if the plans were not made by our planner or do not go with the changes.
    """
    changed = deepcopy(dict(plans))
    resolved = PlansManager(changed).get_configuration(configuration).configuration
    method = DiffusionMethod.from_plans(resolved)
    changed["configurations"][configuration][PLANS_KEY] = method.with_options(changes_to(method)).to_plans()
    return changed
