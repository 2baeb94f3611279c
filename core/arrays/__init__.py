"""What can be done with NumPy arrays alone, without tensors."""
