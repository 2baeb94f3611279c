"""States in memory: values, sharing, dtypes and the manifest."""
