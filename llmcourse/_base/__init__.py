"""Foundations that know nothing of the course: errors, whole-file writes, redaction, hardware, the hub."""

__version__ = "0.1.0"
