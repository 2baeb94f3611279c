"""What a Module is: how its state is registered, found and loaded."""
