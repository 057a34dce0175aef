"""What every part stands on: whole files, processes, and what they say."""
