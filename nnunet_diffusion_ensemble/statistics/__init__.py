"""Statistics over cases and seeds (docs/statistics.md)."""
