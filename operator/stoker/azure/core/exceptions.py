"""`azure.core.exceptions`: what to catch where Azure's own errors were caught."""

from stoker.azure.absent import names_of
from stoker.errors import BadInput, StokerError

AzureError = StokerError
HttpResponseError = StokerError
ResourceNotFoundError = BadInput
ResourceExistsError = BadInput

__getattr__ = names_of(__name__)

__all__ = ["AzureError", "HttpResponseError", "ResourceExistsError", "ResourceNotFoundError"]
