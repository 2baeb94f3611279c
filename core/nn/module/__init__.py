"""The Module class: how its state is registered, found and loaded."""
