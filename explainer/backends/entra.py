"""Tokens of Microsoft Entra, for Azure OpenAI without a key."""

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.identity.aio import DefaultAzureCredential

from explainer.backends.refusals import Asked

SCOPE = "https://cognitiveservices.azure.com/.default"


class Entra:
    """Whatever identity this machine or its user has. The library keeps tokens until they end."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        try:
            self._credential = DefaultAzureCredential(exclude_interactive_browser_credential=True)
        except ValueError:
            raise self._senseless() from None

    async def token(self) -> str:
        try:
            return (await self._credential.get_token(SCOPE)).token
        except ClientAuthenticationError as error:
            raise self._asked.config(
                f"Microsoft Entra gives no token ({type(error).__name__}): sign in with az login, "
                "or give the pod a workload or managed identity"
            ) from None
        except AzureError as error:
            raise self._asked.later(f"Microsoft Entra cannot be asked ({type(error).__name__})") from None
        except (OSError, ValueError):
            raise self._senseless() from None

    def _senseless(self) -> Exception:
        return self._asked.config("Microsoft Entra's library cannot use an environment variable AZURE_...: check them")

    async def close(self) -> None:
        await self._credential.close()
