"""What a text says, for whoever reads turns: words, names, times, languages. Pure."""
