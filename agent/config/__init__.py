"""The recorder's configuration file: what may be set, and the template that provisioning writes."""
