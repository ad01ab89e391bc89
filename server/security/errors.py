"""What the server refuses for reasons of security, as errors clients may see."""

from server.core.errors import ServerError


class Unauthorized(ServerError):
    """No valid token came with the request."""

    code = "invalid_api_key"
    http_status = 401


class PermissionMissing(ServerError):
    """The token is valid, but not for this."""

    code = "permission_denied"
    http_status = 403


class InvalidHost(ServerError):
    """The `Host` header is missing, doubled or no host at all."""

    code = "invalid_host"
    http_status = 400


class HostNotAllowed(ServerError):
    """The client asked for a host that this server does not stand for."""

    code = "host_not_allowed"
    http_status = 403


class OriginNotAllowed(ServerError):
    """A web page of another origin tried to use the server."""

    code = "origin_not_allowed"
    http_status = 403


class TooManyRequests(ServerError):
    """So many requests are being answered that no more is begun."""

    code = "too_many_requests"
    http_status = 429
    retryable = True


class BodyTooSlow(ServerError):
    """The request body did not arrive in time."""

    code = "body_timeout"
    http_status = 408


class TokensUnreadable(ServerError):
    """The tokens cannot be read, so nobody can be let in."""

    code = "tokens_unreadable"
    http_status = 503
