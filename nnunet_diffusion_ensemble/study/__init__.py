"""Studies of label efficiency: which cases, which trainings, how long."""
