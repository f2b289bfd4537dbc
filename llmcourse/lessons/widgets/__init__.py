"""Widgets of the notebooks, each with a static figure that stands in for it."""
