"""Names, places and organisations, by a model that is on this machine already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.privacy.interface import Match
from gateway.privacy.presidio_finders import Finder
from gateway.privacy.presidio_pieces import segments


class ModelMissing(ValueError):
    """The entities that are asked for need a model, and there is none; the message says what to do."""


def name_finder(entities: frozenset[str], languages: tuple[str, ...], model_path: Path | None) -> Finder:
    """A finder of ``entities`` by the model at ``model_path``: a spaCy model's folder, or a file with
    Presidio's NLP engine configuration. Raises ``ModelMissing``."""
    asked = ", ".join(sorted(entities))
    if model_path is None:
        raise ModelMissing(
            f"{asked} can only be found with a model; give the path of a spaCy model's folder."
        )
    if not model_path.exists():
        raise ModelMissing(f"{asked}: there is no model at {model_path}; put a spaCy model's folder there.")
    engine = _loaded(model_path, languages)
    language = next((name for name in languages if name in engine.get_supported_languages()), None)
    if language is None:
        raise ModelMissing(
            f"{model_path}: the model speaks none of {', '.join(languages)}; add its language."
        )
    wanted = sorted(entities)

    def run(text: str) -> list[Match]:
        return [
            match
            for start, end in segments(text)
            for match in _named(engine, text, start, end, language, wanted)
        ]

    return Finder(name="model", entities=entities, run=run, language=language, gated=False, folded=False)


def _loaded(path: Path, languages: tuple[str, ...]) -> Any:
    try:
        return _of_folder(path, languages) if path.is_dir() else _of_configuration(path)
    except ModelMissing:
        raise
    except Exception as error:
        raise ModelMissing(
            f"{path}: the model cannot be loaded ({type(error).__name__}: {error}); put a whole one there."
        ) from error


def _named(engine: Any, text: str, start: int, end: int, language: str, wanted: list[str]) -> list[Match]:
    part = text[start:end]
    if not any(letter.isalpha() for letter in part):
        return []
    found = engine.process_text(part, language)
    return [
        Match(start + entity.start_char, start + entity.end_char, entity.label_, float(score))
        for entity, score in zip(found.entities, found.scores, strict=True)
        if entity.label_ in wanted
    ]


def _of_folder(folder: Path, languages: tuple[str, ...]) -> Any:
    from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine

    if not (folder / "config.cfg").is_file():
        raise ModelMissing(
            f"{folder}: is no spaCy model (it has no config.cfg); give the folder that holds it."
        )
    models = [{"lang_code": language, "model_name": str(folder)} for language in languages[:1]]
    # Presidio ignores organisations unless it is told otherwise.
    engine = SpacyNlpEngine(
        models=models, ner_model_configuration=NerModelConfiguration(labels_to_ignore=[])
    )
    engine.load()
    return engine


def _of_configuration(path: Path) -> Any:
    import yaml
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    try:
        configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = [name for model in configuration["models"] for name in _model_names(model["model_name"])]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ModelMissing(
            f"{path}: is no configuration of a Presidio NLP engine; it needs `models`."
        ) from error
    absent = [name for name in names if not _is_local(name)]
    if absent:
        raise ModelMissing(
            f"{path}: {', '.join(absent)} is not on this machine; nothing is downloaded, give a folder."
        )
    return NlpEngineProvider(nlp_configuration=configuration).create_engine()


def _model_names(value: Any) -> list[str]:
    return [str(name) for name in value.values()] if isinstance(value, dict) else [str(value)]


def _is_local(name: str) -> bool:
    import spacy

    return Path(name).exists() or spacy.util.is_package(name)
