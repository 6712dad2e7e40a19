"""Files and vector stores as the program has them: built from the configuration, started, searched, stopped."""
