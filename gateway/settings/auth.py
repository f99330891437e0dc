"""``auth`` and ``kill_switches``: other ways in than virtual keys, and what is stopped."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gateway.settings.section import Flag, NameOrAll, Number, OptionalPath, OptionalText, Section, Text

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class JwtSettings(Section):
    """An identity provider whose signed tokens are taken as keys."""

    issuer: Text = Field(description="The tokens' iss claim, letter for letter.")
    audience: Text = Field(description="What the tokens' aud claim must name, so that they are for us.")
    jwks_file: OptionalPath = Field(
        default=None,
        description="File with the provider's public keys (JWKS); read again every ten minutes.",
    )
    jwks_url: OptionalText = Field(
        default=None, description="Where the provider's public keys (JWKS) are fetched, every ten minutes."
    )
    tenant_claim: Text = Field(default="tenant", description="The claim that names the tenant.")
    user_claim: Text = Field(default="sub", description="The claim that becomes the cost tag user.")
    feature_claim: OptionalText = Field(
        default=None, description="A claim that becomes the cost tag feature."
    )
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = Field(
        default=("RS256", "ES256"), description="Signatures that are taken; name only those that are used."
    )
    leeway_s: Annotated[Number, Field(ge=0, le=300)] = Field(
        default=30.0, description="Seconds by which clocks may differ."
    )
    models: tuple[NameOrAll, ...] | None = Field(
        default=None, description="Models that these tokens may use, to give them less than their tenant."
    )


class AuthSettings(Section):
    """Who may ask without a virtual key."""

    jwt: tuple[JwtSettings, ...] = Field(
        default=(), description="Identity providers; name one so that people can use tokens of theirs."
    )


class KillSwitchSettings(Section):
    """Something that is stopped."""

    scope: Literal["all", "tenant", "key", "feature", "model", "provider", "deployment"] = Field(
        description="What kind of thing is stopped."
    )
    name: OptionalText = Field(
        default=None, description="Which one (a key as tenant/key-id); absent for the scope all."
    )
    reason: Reason = Field(description="Why; those who are stopped read it.")
    cut_streams: Flag = Field(default=False, description="true ends what runs already, too.")
