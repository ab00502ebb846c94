"""Errors of the login."""

from sync_pipeline.errors import SyncPipelineError


class LoginSettingsError(SyncPipelineError):
    """An environment variable of the login has an unusable value, which the message does not show."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")
        self.variable = variable


class LoginUnavailableError(SyncPipelineError):
    """The database that holds the users cannot be reached."""

    def __init__(self) -> None:
        super().__init__("signing in is not possible at the moment: the database of the users cannot be reached")


class UserError(SyncPipelineError):
    """A change to a user is not possible."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"user '{name}' {problem}")
        self.name = name


class PasswordError(SyncPipelineError):
    """A password is not acceptable."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the password {problem}")


class SignInRefusedError(SyncPipelineError):
    """The identity provider's answer does not allow signing in; `reason` is a keyword for the audit log."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ProviderUnavailableError(SyncPipelineError):
    """The identity provider cannot be reached, or its configuration document is unusable."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"single sign-on is not possible at the moment: {problem}")
