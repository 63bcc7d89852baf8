"""Foundation of all layers: errors, configuration, registries, shared types and runtime settings."""
