"""No model: the rules' own words are enough."""

from explainer.backends.settings import RulesSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.errors import Rejected


class RulesBackend:
    structured = False

    def __init__(self, settings: RulesSettings) -> None:
        self.name = settings.called

    async def complete(self, prompt: Prompt) -> Completion:
        raise Rejected(f"backend {self.name}: no model is asked; the rules' own words stand")

    async def close(self) -> None:
        pass
