"""What AWS's errors mean for a launch.

Codes: the error-code pages of the EC2 and Auto Scaling API references. An Auto Scaling group tells only in its
activities, in prose, why instances do not come.
"""

import re
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from stoker.core.cluster.machines import LaunchFault
from stoker.nodepools.pool import LaunchError, PoolError

_CODES: dict[LaunchFault, tuple[str, ...]] = {
    "Capacity": (
        "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
        "InsufficientCapacity", "UnfulfillableCapacity", "ReservationCapacityExceeded", "SpotMaxPriceTooLow",
    ),
    "Quota": (
        "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "MaxFleetCountExceeded",
        "InsufficientFreeAddressesInSubnet", "VolumeLimitExceeded", "NetworkInterfaceLimitExceeded", "LimitExceeded",
        "LimitExceededException", "AddressLimitExceeded",
    ),
    "Throttled": (
        "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
        "RequestThrottledException", "TooManyRequestsException", "EC2ThrottledException", "SlowDown",
        "BandwidthLimitExceeded", "RequestThrottling",
    ),
    "Auth": (
        "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "AuthFailure", "InvalidClientTokenId",
        "ExpiredToken", "ExpiredTokenException", "SignatureDoesNotMatch", "UnrecognizedClientException",
        "OptInRequired", "InvalidIdentityToken", "IDPCommunicationError", "IncompleteSignature",
        "MissingAuthenticationToken", "PendingVerification", "Blocked",
    ),
    "Config": (
        "ValidationError", "ValidationException", "Unsupported", "UnsupportedOperation", "IdempotentParameterMismatch",
        "ResourceNotFoundException", "ClientException", "DryRunOperation", "GroupNotFound", "GroupMinSize", "OwnedByAnotherAutoscaler",
    ),
    "Transient": ("ScalingActivityInProgress", "ResourceContention", "InvalidInstanceID.NotFound"),
}  # fmt: skip
_FAULT_OF: dict[str, LaunchFault] = {code: fault for fault, codes in _CODES.items() for code in codes}
#: Pieces of what activities of Auto Scaling say, where no code is among the words.
_PHRASES: tuple[tuple[str, LaunchFault], ...] = (
    ("do not have sufficient", "Capacity"),
    ("no spot capacity", "Capacity"),
    ("capacity-not-available", "Capacity"),
    ("limit of", "Quota"),
    ("quota", "Quota"),
    ("max spot instance count exceeded", "Quota"),
    ("not authorized", "Auth"),
    ("access denied", "Auth"),
    ("request limit exceeded", "Throttled"),
    ("not supported", "Config"),
    ("does not exist", "Config"),
    ("invalid", "Config"),
)
_LOCAL_AUTH = (NoCredentialsError, PartialCredentialsError, TokenRetrievalError, UnauthorizedSSOTokenError)


def fault_of_code(code: str) -> LaunchFault:
    """What kind of trouble an error code is; one that nobody listed passes."""
    code = code.removeprefix("Client.").removeprefix("Server.")
    if code in _FAULT_OF:
        return _FAULT_OF[code]
    return "Config" if code.startswith(("Invalid", "Missing", "Malformed")) else "Transient"


def fault_of_words(words: str) -> tuple[LaunchFault, str]:
    """What kind of trouble an activity tells of, and its code if the words name one."""
    for word in re.findall(r"[A-Za-z][A-Za-z.]+", words):
        if word in _FAULT_OF:
            return _FAULT_OF[word], word
    found = next((fault for phrase, fault in _PHRASES if phrase in words.lower()), None)
    return found or "Transient", "LaunchActivityFailed"


def fault_of(error: Exception) -> LaunchFault:
    """What kind of trouble an error of boto3's is."""
    if isinstance(error, LaunchError):
        return error.fault
    if isinstance(error, PoolError):
        return fault_of_code(error.reason)
    if isinstance(error, ClientError):
        return fault_of_code(code_of(error))
    if isinstance(error, _LOCAL_AUTH):
        return "Auth"
    return "Config" if isinstance(error, ParamValidationError | NoRegionError) else "Transient"


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) or "UnknownError"


def pool_error(error: ClientError | BotoCoreError) -> PoolError:
    """The same for those who know nothing of AWS, with the fix where it is one of rights."""
    if isinstance(error, ClientError):
        code, message = code_of(error), str(error.response.get("Error", {}).get("Message", ""))
        operation: Any = error.operation_name
        words = f"AWS refused {operation}: {message}"
    else:
        code, words = type(error).__name__, f"AWS: {error}"
    if fault_of(error) == "Auth":
        words += "; see which rights the operator needs: docs/how-to/aws-node-groups.md"
    return PoolError(code, words)
