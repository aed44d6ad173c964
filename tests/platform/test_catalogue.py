"""`docs/components.md` is what the components say of themselves."""

import pytest
from kfp.dsl import Artifact, Output

from kfp_lifecycle.compilation.artifact_catalogue import PAGE, SCHEMAS, documents, page, parts_of, schema_files
from kfp_lifecycle.compilation.catalogue import CATALOGUE, ROOT, catalogue, described
from kfp_lifecycle.compilation.pipeline import components
from kfp_lifecycle.runtime.component import component


def test_the_catalogue_is_fresh() -> None:
    stale = "docs/components.md is stale: run `python -m kfp_lifecycle.compilation.catalogue`"
    assert CATALOGUE.read_text(encoding="utf-8") == catalogue(), stale


def test_the_catalogue_lists_every_component() -> None:
    text = CATALOGUE.read_text(encoding="utf-8")
    folders = sorted((ROOT / "components").glob("*/*/component.py"))
    assert sorted(components()) == sorted(file.parent.name for file in folders)
    assert all(f"### {file.parent.name}\n" in text for file in folders)


def test_an_output_that_the_docstring_does_not_explain_is_refused_by_name() -> None:
    @component(environment="platform")
    def secretive(told: Output[Artifact], untold: Output[Artifact]):
        """Write two things.

        Args:
            told: What one of them is.
        """

    with pytest.raises(ValueError, match=r"secretive: its docstring does not explain `untold`"):
        list(described(secretive))


def test_the_documents_of_artifacts_are_described_and_published_from_their_types() -> None:
    stale = "docs/artifacts.md is stale: run `python -m kfp_lifecycle.compilation.artifact_catalogue`"
    assert PAGE.read_text(encoding="utf-8") == page(), stale
    published = {file.name: file.read_text(encoding="utf-8") for file in SCHEMAS.iterdir()}
    assert published == schema_files(), stale


def test_every_field_of_a_document_says_what_it_means() -> None:
    silent = [
        f"{model.__name__}.{name}"
        for document in documents().values()
        for model in (document, *parts_of(document))
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert silent == []
