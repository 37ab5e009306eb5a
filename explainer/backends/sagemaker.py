"""Amazon SageMaker endpoints whose container speaks OpenAI's chat format, as those of vLLM, TGI and LMI do."""

import json

from explainer.backends.aws import AwsClient
from explainer.backends.chat import completion, messages
from explainer.backends.settings import SageMakerSettings
from kubewhy.contracts import Completion, Prompt
from kubewhy.farside import unreadable


class SageMakerBackend:
    structured = False  # containers differ in how they take a schema, if they do

    def __init__(self, settings: SageMakerSettings) -> None:
        self.name = settings.called
        self._settings = settings
        self._client = AwsClient(settings, "sagemaker-runtime", settings.endpoint)

    async def complete(self, prompt: Prompt) -> Completion:
        body = {"messages": messages(prompt), "max_tokens": self._settings.max_tokens or prompt.max_tokens}
        component = {"InferenceComponentName": self._settings.component} if self._settings.component else {}
        told = await self._client.call(
            "invoke_endpoint",
            EndpointName=self._settings.endpoint,
            ContentType="application/json",
            Accept="application/json",
            Body=json.dumps(body).encode(),
            **component,
        )
        try:
            answer = json.loads(told["Body"].read())
        except ValueError:
            raise unreadable(self._client.asked) from None
        return completion(self._client.asked, answer)

    async def close(self) -> None:
        await self._client.close()
