"""Widgets of the notebooks. Each shows a static figure first, which stands in for it where nothing is interactive."""
