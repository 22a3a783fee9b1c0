"""One file per file format: what a path holds, as a model type, a config and named arrays."""
