"""MSRVTT-Personalization: its folders, how they are built, the metrics, and what is made for it (PAPER.md §6)."""
