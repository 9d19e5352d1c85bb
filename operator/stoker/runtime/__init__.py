"""What runs beside the training process: fetch, launch and ship.

Standard library only, and no syntax newer than Python 3.8: `launch` runs inside the user's own image.
"""
