"""What secrets look like: vendors' tokens, and the words before a password. Patterns are RE2's."""

# Where each vendor documents the form of its tokens, the form is told by its prefix.
TOKENS = (
    r"(?:AKIA|ASIA|ABIA|ACCA|AGPA|AIDA|AIPA|ANPA|ANVA|AROA)[A-Z0-9]{12,}",  # AWS
    r"ABSK[A-Za-z0-9+/]{32,}={0,2}|bedrock-api-key-[A-Za-z0-9+/=_-]{16,}",
    r"gh[opusr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}",
    r"gl(?:agent|cbt|dt|ft|imt|oas|pat|ptt|rt|soat|ffct)-[A-Za-z0-9_=.-]{16,}|GR1348941[A-Za-z0-9_-]{16,}",
    r"xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}",  # Slack
    r"(?:sk|rk|pk)_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,}",  # Stripe
    r"AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{16,}|GOCSPX-[0-9A-Za-z_-]{16,}|1//0[0-9A-Za-z_-]{16,}",  # Google
    r"sk-[A-Za-z0-9_-]{16,}",  # OpenAI, Anthropic and those that follow them
    r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}",  # Entra
    r"npm_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{16,}|rubygems_[0-9a-f]{32,}|oy2[a-z0-9]{43}",
    r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{16,}|hv[bsr]\.[A-Za-z0-9_-]{20,}|do[opr]_v1_[0-9a-f]{32,}",
    r"hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{30,}",
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|key-[0-9a-f]{32}|(?:AC|SK)[0-9a-f]{32}",  # SendGrid, Mailgun, Twilio
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|NRAK-[A-Z0-9]{20,}|gl(?:c|sa)_[A-Za-z0-9+/=_]{20,}|lin_api_[A-Za-z0-9]{20,}",
    r"[0-9]{8,10}:[A-Za-z0-9_-]{35}|dapi[0-9a-f]{32}|sntry[su]_[A-Za-z0-9+/=_-]{20,}|ATATT3[A-Za-z0-9_=-]{20,}",
    r"AGE-SECRET-KEY-1[0-9A-Z]{50,}|PMAK-[0-9a-f-]{30,}|ntn_[A-Za-z0-9]{30,}|dop_v1_[0-9a-f]{32,}",
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,4}",  # JSON Web Tokens
)

# Addresses that are a secret as a whole.
WEBHOOKS = (
    r"hooks\.slack\.com/(?:services|workflows|triggers)/[^\s\"'<>]+",
    r"(?:discord|discordapp)\.com/api/webhooks/[^\s\"'<>]+",
    r"[A-Za-z0-9.-]+\.webhook\.office\.com/[^\s\"'<>]+",
)

_WHOLE = r"(?:pass|pwd|psk|pin|otp|sas|sig|sid|mfa|auth)"  # only as words of their own
_PART = (
    r"(?:passw(?:or)?d|passwort|passphrase|pass[_-]?code|secret|token|credential|signature|api[_.-]?key|access[_.-]?key"
    r"|account[_.-]?key|private[_.-]?key|secret[_.-]?key|signing[_.-]?key|encryption[_.-]?key|master[_.-]?key"
    r"|license[_.-]?key|auth[_.-]?key|shared[_.-]?key|ssh[_.-]?key|service[_.-]?key|webhook[_.-]?url"
    r"|conn(?:ection)?[_.-]?str(?:ing)?|session[_.-]?id|nonce|salt)"
)
_SUFFIX = r"(?:[_.-]?(?:s|id|value|key|hash|data|old|new|current|b64|base64|enc|encrypted|plain|[0-9]{1,3}))?"
# Not `secretName` nor `token_count`: what follows would be no secret.
KEY = rf"(?i:(?:{_PART}{_SUFFIX}|(?:\b|_){_WHOLE}))"
FLAG = rf"--(?i:[a-z0-9-]*{_PART}{_SUFFIX}|(?:[a-z0-9-]*-)?{_WHOLE})"
EQUALS = r"\\*[\"']?[ \t]*(?:=>|:=|[:=])[ \t]*"
