"""What Slack's refusals mean: https://docs.slack.dev/reference/methods/chat.postMessage."""

from kubewhy.errors import ConfigError, Rejected, RetryLater

_NO_TOKEN = {
    "account_inactive",
    "invalid_auth",
    "not_authed",
    "org_login_required",
    "token_expired",
    "token_revoked",
}
_NO_WEBHOOK = {
    "invalid_token",
    "no_active_hooks",
    "no_service",
    "no_service_id",
    "no_team",
    "team_disabled",
    "user_not_found",
}
_NOT_ALLOWED = {
    "access_denied",
    "action_prohibited",
    "ekm_access_denied",
    "no_permission",
    "not_allowed_token_type",
    "posting_to_channel_denied",
    "posting_to_general_channel_denied",
    "restricted_action",
    "restricted_action_read_only_channel",
    "restricted_action_thread_only_channel",
    "team_access_not_granted",
    "user_is_restricted",
}
_BAD_MESSAGE = {
    "attachment_payload_limit_exceeded",
    "block_mismatch",
    "invalid_arguments",
    "invalid_attachments",
    "invalid_blocks",
    "invalid_blocks_format",
    "invalid_json",
    "invalid_metadata_format",
    "invalid_metadata_schema",
    "invalid_payload",
    "json_not_object",
    "metadata_too_large",
    "msg_blocks_too_long",
    "msg_too_long",
    "no_text",
    "too_many_attachments",
}
_TOO_OFTEN = {
    "message_limit_exceeded",
    "rate_limited",
    "ratelimited",
}

_MENDS = {
    "channel_not_found": "there is no channel {channel} that the app may see: check `channel`, and invite the app",
    "not_in_channel": "the app is not in channel {channel}: invite it there with /invite",
    "is_archived": "channel {channel} is archived: unarchive it, or name another as `channel`",
    "channel_is_archived": "the webhook's channel is archived: unarchive it, or make a webhook for another",
}


class Refusal(Exception):
    """Slack took the request, and said no by this code. `scope` is what the token would need."""

    def __init__(self, code: str, after: float | None = None, scope: str = "") -> None:
        super().__init__(code)
        self.code, self.after, self.scope = code, after, scope

    @property
    def too_often(self) -> bool:
        """Whether it would be taken later."""
        return self.code in _TOO_OFTEN

    @property
    def no_channel(self) -> bool:
        """Whether it is the channel that is missing, or shut."""
        return self.code in _MENDS


def meaning(refusal: Refusal, *, channel: str, secret: str) -> Exception:
    """The error that a refusal stands for. `secret` says where the token or the address is kept."""
    code = refusal.code
    if code in _TOO_OFTEN:
        return RetryLater(f"Slack is asked too often ({code})", refusal.after)
    if code in _BAD_MESSAGE:
        return Rejected(f"Slack does not take the message ({code})")
    if code in _MENDS:
        return ConfigError(_MENDS[code].format(channel=channel))
    if code in _NO_TOKEN or code in _NO_WEBHOOK:
        return ConfigError(f"Slack does not accept what {secret} holds ({code}): check or renew it")
    if code == "missing_scope":
        return ConfigError(f"the token lacks the scope {refusal.scope or 'chat:write'}: add it, and reinstall the app")
    if code in _NOT_ALLOWED:
        return ConfigError(f"the app may not post to channel {channel} ({code}): allow it in the workspace's settings")
    # Whatever is new or passes.
    return RetryLater(f"Slack refuses it ({code})", refusal.after)
