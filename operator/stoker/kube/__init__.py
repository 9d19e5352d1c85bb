"""Talking to the API server: client, reflector, store, work queue, events."""
