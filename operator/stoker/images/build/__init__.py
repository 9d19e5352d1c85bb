"""The builder: makes the image of an environment in a pod of its own (`python3 -m stoker.images.build`)."""
