"""The ways of waiting, one module each. None is imported before its framework runs."""
