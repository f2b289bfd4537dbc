"""Exercises of a notebook."""
