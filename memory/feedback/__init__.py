"""What somebody said of recalls."""
