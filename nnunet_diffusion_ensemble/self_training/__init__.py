"""Self-training: a teacher's predictions of unlabelled images, as far as they can be trusted, teach the next model."""
