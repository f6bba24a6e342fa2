"""The trainer's one-line errors, in a file that imports nothing."""

from __future__ import annotations


class TrainerError(Exception):
    """One line: what cannot be trained or sampled, and what would be right."""


class Stopped(TrainerError):
    """SIGTERM ended a run after a step, with a checkpoint of it."""
