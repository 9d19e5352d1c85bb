"""Why an image could not be made."""


class BuildFailed(Exception):
    """reason: of research/images §9, such as PipUnsatisfiable. where: the place in the user's definition, or empty.

    transient: whether another try may help with nothing changed.
    """

    def __init__(self, reason: str, message: str, *, where: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.where = where
        self.transient = transient
