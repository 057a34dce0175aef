"""Parts of `shift_choices.py`: a study, in torch alone, of what helps with few labels in another hospital."""
