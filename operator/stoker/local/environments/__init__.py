"""An environment on this machine: the definition that a cluster makes an image of, as a folder in the user's cache."""
