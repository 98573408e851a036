"""Makes an agency's keys and devices: root, supervisors, recipients, docking, first policy, adoption of a machine."""
