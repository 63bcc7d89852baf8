"""What every layer stands on: errors, configuration, registries, shared types and the runtime."""
