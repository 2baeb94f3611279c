"""An entry as a folder for the Hugging Face hub: weights for other readers, a card, and code in plain PyTorch."""
