"""The policy as the recorder sees it: signed bundles, or the unsafe development policy."""
