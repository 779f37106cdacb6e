"""What is erased, by whom, and that it is gone."""
