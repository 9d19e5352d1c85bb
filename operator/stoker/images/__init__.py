"""The registry client: what an image reference means."""
