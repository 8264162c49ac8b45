"""The config file: its structs, where it is found, what its values mean."""
