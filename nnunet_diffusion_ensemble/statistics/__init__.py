"""Statistics over cases and seeds: intervals, paired comparisons, domain gaps, ranks."""
