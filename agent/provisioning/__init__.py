"""Provisioning: keys and certificates of an agency and a device, broker, first policy bundle, adoption of a machine."""
