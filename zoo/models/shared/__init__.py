"""What the recipes and models of several architectures share."""
