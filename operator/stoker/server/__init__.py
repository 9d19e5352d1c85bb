"""The HTTP server: grants for runs, and the client's way in."""
