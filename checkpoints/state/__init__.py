"""What a state is, with no file in sight: values, sharing, dtypes and the manifest."""
