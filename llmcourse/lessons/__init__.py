"""Only for the notebooks: exercises, from-scratch code, widgets, recorded results."""
