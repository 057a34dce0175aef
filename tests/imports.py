"""What code imports, found out in a process of its own."""

import subprocess
import sys
from collections.abc import Iterable


def imported_by(code: str, names: Iterable[str]) -> set[str]:
    """Which of these modules are loaded once the code has run."""
    asked = f"{code}; import sys; print(*{set(names)} & set(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split())
