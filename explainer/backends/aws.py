"""How AWS's services for models are called, and what their refusals mean."""

from typing import Any

from botocore import exceptions as aws

from explainer.backends.refusals import Asked, no_model, refusal
from explainer.backends.settings import BedrockSettings, SageMakerSettings
from kubewhy.aws import Limits, Meanings, Place, Service, status_of
from kubewhy.farside import LONGEST_REPLY, endless


class AwsClient:
    """Calls the operations of one service about one model. Raises what the vendor's errors mean."""

    def __init__(self, settings: BedrockSettings | SageMakerSettings, service: str, model: str) -> None:
        def asked(region: str) -> Asked:
            address = settings.url or f"{service} in {region}"
            return Asked(settings.called, model, address, "AWS's default chain")

        place = Place(service, settings.url, settings.region, settings.profile, settings.ca_file)
        meanings = Meanings(
            asked,
            self._refused,
            unfit=lambda: no_model(self.asked, "its name is not understood"),
            endless=lambda: endless(self.asked),
        )
        self._told = asked
        self._service = Service(place, Limits(settings.timeout_seconds, LONGEST_REPLY), meanings)
        self.call, self.close = self._service.call, self._service.close

    @property
    def asked(self) -> Asked:
        """Who is asked, with the region that was found."""
        return self._told(self._service.region)

    def _refused(self, error: aws.ClientError, operation: str) -> Exception:
        told: dict[str, Any] = error.response
        about = told.get("Error", {})
        said = f"{about.get('Code')}: {about.get('Message')} {told.get('OriginalMessage')}"
        headers = told.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return refusal(self.asked, status_of(error), said.encode(), headers)
