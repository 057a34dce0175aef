"""Image files read in one place, by nnU-Net's reader of the plans, and checked: every door goes through here."""
