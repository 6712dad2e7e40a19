"""The typed configuration: schema, strict loading, checks, and sentences about what is wrong."""
