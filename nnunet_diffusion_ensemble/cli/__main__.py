"""`python -m nnunet_diffusion_ensemble.cli`, where the script is not on the PATH."""

import sys

from nnunet_diffusion_ensemble.cli import main

sys.exit(main())
