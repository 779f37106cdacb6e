"""The commands of `diptych`, a module for each group."""
