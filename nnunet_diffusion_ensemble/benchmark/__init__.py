"""Do models survive the next hospital? Prediction, metrics and statistics over domains, and studies of few labels."""
