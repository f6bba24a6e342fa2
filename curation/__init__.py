"""Curate video-caption collections into training data for subject-personalised video generation."""

__version__ = "0.1.0"
