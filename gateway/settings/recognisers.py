"""``tenants.*.redaction.recognisers``: a tenant's own recognisers, with Presidio's keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from gateway.settings.section import Flag, Number, Section, Text, Whole

Score = Annotated[Number, Field(gt=0, le=1)]
Regex = Annotated[str, Field(min_length=1, max_length=4000)]


class PatternSettings(Section):
    """One regular expression of a recogniser."""

    name: Text = Field(default="pattern", description="What the pattern is called, for those who read it.")
    regex: Regex = Field(
        description="RE2 syntax: no look-around, no back-references; cases are alike unless flags say else."
    )
    score: Score = Field(description="How sure a match is; below the threshold it needs a context word.")


class RecogniserLanguage(Section):
    """One language of a recogniser."""

    language: Text = Field(description="The language, such as en.")
    context: tuple[Text, ...] = Field(
        default=(), description="Words near a match that speak for it, in this language."
    )


def _language(value: Any) -> Any:
    return {"language": value} if isinstance(value, str) else value


class RecogniserSettings(Section):
    """What a tenant looks for beside the built-in entities."""

    name: Text = Field(description="What the recogniser is called.")
    type: Text = Field(default="custom", description="Always custom; built-in ones go by their entity.")
    enabled: Flag = Field(default=True, description="false keeps a recogniser without using it.")
    supported_entity: Text | None = Field(
        default=None, description="Name of what it finds, such as EMPLOYEE_ID; always looked for."
    )
    supported_entities: tuple[Text, ...] | None = Field(
        default=None, description="The same as a list of one, as Presidio's files have it."
    )
    supported_language: Text | None = Field(
        default=None, description="Language of the context words; en if absent."
    )
    supported_languages: (
        tuple[
            Annotated[
                RecogniserLanguage,
                BeforeValidator(_language, json_schema_input_type=str | RecogniserLanguage),
            ],
            ...,
        ]
        | None
    ) = Field(default=None, description="Several languages, each with context words of its own or not.")
    patterns: tuple[PatternSettings, ...] | None = Field(
        default=None, description="Regular expressions, each with its score."
    )
    deny_list: tuple[Text, ...] | None = Field(
        default=None, description="Words that are matches, whole and in any case."
    )
    deny_list_score: Score | None = Field(
        default=None, description="How sure a word of deny_list is; 1 if absent."
    )
    context: tuple[Text, ...] | None = Field(
        default=None, description="Words shortly before a match that raise its score."
    )
    global_regex_flags: Whole | None = Field(
        default=None,
        description="Sum of 2 (cases are alike), 8 (multi-line), 16 (the dot matches all); 26 if absent.",
    )
    country_code: Text | None = Field(default=None, description="Country of the recogniser; for reading.")
    version: Text | None = Field(default=None, description="Version of the recogniser; for reading.")

    def document(self) -> dict[str, Any]:
        """As it was written, in JSON's types."""
        return self.model_dump(mode="json", exclude_unset=True)
