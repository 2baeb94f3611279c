"""Writing one checkpoint from another: converted, copied or repaired."""
