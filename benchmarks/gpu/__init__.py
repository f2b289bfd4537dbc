"""The steps of gpu_check.py, a module for each, and what they share (setting.py)."""
