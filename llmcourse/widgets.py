"""Widgets of the notebooks: sliders and boxes, each with a static figure that stands in for it where nothing is interactive."""
