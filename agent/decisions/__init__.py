"""The policy as the recorder asks it: signed bundles, or the unsafe development policy."""
