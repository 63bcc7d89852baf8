"""Files and records of others into a media table: reading, checking, storing, resuming."""
