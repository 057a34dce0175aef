"""Evaluation of predictions, case by case."""
