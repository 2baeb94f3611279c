"""How a recipe becomes a run."""
