"""Stages: one file each, named by a verb; `curation.recipe.STAGES` lists them."""
