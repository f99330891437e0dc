"""``tenants.*.redaction`` and ``privacy``: what happens to personal data, and what finds it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Optional

from pydantic import AfterValidator, Field, SecretStr, create_model

from gateway.privacy.entities import DENIED, NAME_ENTITIES
from gateway.privacy.policy import DetectorSpec
from gateway.settings.recognisers import RecogniserSettings
from gateway.settings.section import (
    Count,
    Flag,
    Name,
    Number,
    OptionalPath,
    OptionalSecret,
    Section,
    Text,
)

MIN_HASH_KEY_CHARS = 16
MAX_BUDGET_S = 60
DEFAULT_ENTITIES = (
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "IP_ADDRESS",
    "CRYPTO",
    "API_KEY",
    "JWT",
    "PRIVATE_KEY",
)
DEFAULT_REGIONS = ("US", "GB", "DE", "FR", "IN")

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_REGION = re.compile(r"[A-Z]{2}")


def _language(text: str) -> str:
    if not _LANGUAGE.fullmatch(text):
        raise ValueError("must be a language such as en or de")
    return text


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise ValueError("must be a region such as US or DE")
    return text


def _long(key: SecretStr | None) -> SecretStr | None:
    if key is not None and len(key.get_secret_value()) < MIN_HASH_KEY_CHARS:
        wanted = f"must have at least {MIN_HASH_KEY_CHARS} characters"
        raise ValueError(f"{wanted}; make one with: openssl rand -hex 32")
    return key


Language = Annotated[str, AfterValidator(_language)]
Region = Annotated[str, AfterValidator(_region)]
Choice = Literal["refuse", "pass"]


class RedactionFields(Section):
    """What a tenant says about redaction, and may say otherwise for single models."""

    mode: Literal["off", "mask", "hash", "block", "flag"] = Field(
        default="off",
        description="mask and hash replace what is found, block refuses the request, flag only counts it.",
    )
    entities: tuple[Text, ...] = Field(
        default=DEFAULT_ENTITIES,
        description="What to look for, by Presidio's names. Absent: mail, phone, card, IBAN, US SSN, IP,"
        " wallet, API key, JWT, private key.",
    )
    restore: Flag = Field(
        default=False, description="With mode mask: puts the values back into the answer."
    )
    direction: Literal["input", "output", "both"] = Field(
        default="both",
        description="Whether requests, answers or both are searched; one alone costs less time.",
    )
    actions: dict[Text, Literal["mask", "restore", "hash", "block", "flag"]] = Field(
        default_factory=dict,
        description="What happens to single entities, where it is not what mode says; restore is mask with"
        " restore: true.",
    )
    engine: Literal["fast", "presidio"] = Field(
        default="fast",
        description="fast finds structured data in microseconds; presidio knows more entities, and names.",
    )
    scan: Literal["flagged", "all"] = Field(
        default="flagged",
        description="With presidio: flagged looks around digits and signs like @ only, all everywhere.",
    )
    languages: tuple[Language, ...] = Field(
        default=("en",),
        min_length=1,
        description="With presidio: languages of the texts; the first is that of the model.",
    )
    threshold: Annotated[Number, Field(ge=0, le=1)] = Field(
        default=0.4, description="Least score of a find; raise it against false finds."
    )
    allow: tuple[Text, ...] = Field(
        default=(), description="Values that do not count, such as an address that everybody may know."
    )
    allow_patterns: tuple[Text, ...] = Field(
        default=(), description="Patterns (RE2) of whole values that do not count."
    )
    deny: tuple[Text, ...] = Field(
        default=(), description="Words that always count, in any case, as the entity DENY_LIST."
    )
    phone_regions: tuple[Region, ...] = Field(
        default=DEFAULT_REGIONS,
        description="With fast: countries whose national numbers are known; numbers with + always are.",
    )
    recognisers: tuple[RecogniserSettings, ...] = Field(
        default=(), description="Recognisers of your own, in Presidio's format; with both engines."
    )
    uncovered: Choice = Field(
        default="refuse",
        description="Requests with what cannot be searched: images, audio, files, token ids, logprobs.",
    )
    on_failure: Choice = Field(
        default="refuse", description="What happens when a search fails or takes too long."
    )
    budget_s: Annotated[Number, Field(gt=0, le=MAX_BUDGET_S)] = Field(
        default=2.0, description="Most seconds that searching one request may take."
    )

    @property
    def own_entities(self) -> frozenset[str]:
        """What the tenant's own recognisers find."""
        active = [one for one in self.recognisers if one.enabled]
        named = [(one.supported_entity, *(one.supported_entities or ())) for one in active]
        return frozenset(name for names in named for name in names if name)

    @property
    def own_languages(self) -> frozenset[str]:
        """Those that the tenant's own recognisers name."""
        active = [one for one in self.recognisers if one.enabled]
        several = {each.language for one in active for each in one.supported_languages or ()}
        return frozenset(several | {one.supported_language for one in active if one.supported_language})

    @property
    def looked_for(self) -> frozenset[str]:
        """All entities that may be found."""
        denied = {DENIED} if self.deny else set()
        return frozenset(self.entities) - {DENIED} | self.own_entities | denied

    def detector(self, privacy: PrivacySettings) -> DetectorSpec:
        """What finds them; what the engine does not look at is left as it is by default."""
        fast = self.engine == "fast"
        entities = frozenset(self.entities) - {DENIED}
        named = not fast and bool(entities & NAME_ENTITIES) and privacy.model_path is not None
        own = [one.document() for one in self.recognisers if one.enabled]
        return DetectorSpec(
            engine=self.engine,
            entities=tuple(sorted(entities)),
            languages=("en",) if fast else self.languages,
            threshold=self.threshold,
            allow=self.allow,
            allow_patterns=self.allow_patterns,
            deny=self.deny,
            phone_regions=self.phone_regions if fast and "PHONE_NUMBER" in entities else (),
            recognisers=json.dumps(own, ensure_ascii=False) if own else "",
            scan="flagged" if fast else self.scan,
            model_path=str(privacy.model_path) if named else None,
        )


def _optional(name: str) -> Any:
    """A field that is as the tenant has it where it is absent."""
    field = RedactionFields.model_fields[name]
    kind = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return Optional[kind], Field(default=None, description=field.description)  # noqa: UP045


ModelRedactionSettings: type[Section] = create_model(
    "ModelRedactionSettings",
    __base__=Section,
    __module__=__name__,
    __doc__="What is different for one model; the rest is as the tenant has it.",
    **{name: _optional(name) for name in RedactionFields.model_fields},
)


class RedactionSettings(RedactionFields):
    """What happens to personal data."""

    models: dict[Name, ModelRedactionSettings] = Field(  # type: ignore[valid-type]
        default_factory=dict,
        description="What is different for single model groups, field by field.",
    )

    def at(self, group: str | None) -> RedactionFields:
        """What holds for ``group``."""
        own = self.models.get(group) if group is not None else None
        if own is None:
            return self
        changes = {name: getattr(own, name) for name in own.model_fields_set}
        return self.model_copy(update={**changes, "models": {}})


class PrivacySettings(Section):
    """What redaction needs of the machine and the fleet."""

    hash_key: Annotated[OptionalSecret, AfterValidator(_long)] = Field(
        default=None,
        description="Key of the hashes that stand for values (at least 16 characters); the same on all"
        " replicas. Mode hash needs it.",
    )
    model_path: OptionalPath = Field(
        default=None,
        description="Folder of a spaCy model, or a Presidio NLP configuration; names of people and places"
        " need it.",
    )
    processes: Count = Field(
        default=1, description="Processes that search large texts; raise it where they come many at a time."
    )
