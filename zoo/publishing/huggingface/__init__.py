"""The card of an entry, and the entry as a folder for the Hugging Face hub, with code in plain PyTorch."""
