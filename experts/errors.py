"""Every error that Guildhall raises on purpose.

GuildhallError
├── BadRequest               the caller must change the request
│   ├── UnknownModel         no such expert in the fleet
│   ├── PromptTooLong        prompt over the expert's context length
│   ├── BodyTooLarge         body over the gateway's limit
│   ├── NotFound             no such index, document or version
│   └── Unsupported          a parameter that Guildhall does not honour
├── NotAuthenticated         key missing or wrong
├── NotAllowed               the key is known, but may not do this
├── Overloaded               a limit is reached; retry later
├── Unavailable              an expert, an index or the server is down; retry
│   ├── ExpertUnavailable
│   ├── IndexUnavailable
│   └── NotServing           nothing answers at the address
├── DeadlineExceeded         an answer took longer than the limit
└── ConfigurationError       the operator must change something
    ├── FleetFileError       one or more mistakes in a fleet file
    ├── EncoderMismatch      embedding weights are not the published ones
    └── IndexDamaged         an index version on disk is missing or not what its manifest says

A message says what, what was observed, the limit and the next step. `deployments.http_errors` maps each class to an
HTTP status. Every class survives pickling: all constructor arguments are positional and stored in `args`.
"""


class GuildhallError(Exception):
    """An error whose message a user may read."""


class BadRequest(GuildhallError):
    """The request cannot be served as it is; `param` names the field at fault."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class UnknownModel(BadRequest):
    """The model named is not served here."""


class PromptTooLong(BadRequest):
    """The prompt does not fit the expert's context length."""


class BodyTooLarge(BadRequest):
    """The request body exceeds the gateway's limit."""


class NotFound(BadRequest):
    """The index, document or version named does not exist."""


class Unsupported(BadRequest):
    """A parameter or value that OpenAI's API knows and Guildhall does not honour."""


class NotAuthenticated(GuildhallError):
    """The API key is missing or wrong."""


class NotAllowed(GuildhallError):
    """The caller is known and may not do what it asks for."""


class Overloaded(GuildhallError):
    """A limit on requests in flight is reached."""


class Unavailable(GuildhallError):
    """Something that should answer does not; the request may be retried."""


class ExpertUnavailable(Unavailable):
    """No replica of an expert could finish the sub-query."""


class IndexUnavailable(Unavailable):
    """The index actor on this node did not answer."""


class NotServing(Unavailable):
    """No Guildhall server answers at the address."""


class DeadlineExceeded(GuildhallError):
    """The answer took longer than the limit allows."""


class ConfigurationError(GuildhallError):
    """Something that the operator configured is wrong."""


class EncoderMismatch(ConfigurationError):
    """The encoder's weights are not the ones whose checksum is known."""


class IndexDamaged(ConfigurationError):
    """An index version is missing or differs from its manifest."""


class FleetFileError(ConfigurationError):
    """A fleet file has mistakes; `mistakes` lists all of them, one line each."""

    def __init__(self, path: str, mistakes: tuple[str, ...]) -> None:
        super().__init__(path, mistakes)
        self.path = path
        self.mistakes = mistakes

    def __str__(self) -> str:
        return "\n".join([f"{self.path}: {len(self.mistakes)} mistake(s)", *self.mistakes])
