"""A GraphQL request over HTTP, parsed once; what is decided on is exactly what is executed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_operation_ast,
    parse,
)

from sync_pipeline.errors import SyncPipelineError

# Variables that name what a mutation is about; their values may be logged.
TARGETS = frozenset(
    {
        "jobName",
        "pipelineName",
        "scheduleName",
        "sensorName",
        "runId",
        "runIds",
        "parentRunId",
        "backfillId",
        "path",
        "partitionNames",
        "repositoryLocationName",
        "concurrencyKey",
        "id",
    }
)
TARGET_LENGTH = 200


class InvalidGraphQLRequestError(SyncPipelineError):
    """A request to the GraphQL endpoint cannot be executed as it is."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A document, the operation of it to execute, and its variables."""

    query: str
    operation_name: str | None
    variables: dict[str, Any] | None
    document: DocumentNode
    operation: OperationDefinitionNode

    @classmethod
    def from_http(cls, method: str, headers: Mapping[str, str], body: bytes) -> "GraphQLRequest":
        """Parse a POST request with a JSON body. Raises `InvalidGraphQLRequestError`."""
        # A page on another site can send any other content type without the browser asking this server first.
        content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        if method != "POST" or content_type != "application/json":
            raise InvalidGraphQLRequestError(405, "send GraphQL requests by POST, with Content-Type application/json")
        try:
            fields = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidGraphQLRequestError(400, "the body is not valid JSON") from None
        if not isinstance(fields, dict):
            raise InvalidGraphQLRequestError(400, "the body must be one JSON object with a `query`")
        query, operation_name, variables = (fields.get(key) for key in ("query", "operationName", "variables"))
        if not isinstance(query, str):
            raise InvalidGraphQLRequestError(400, "`query` must be a string")
        if not isinstance(operation_name, str | None):
            raise InvalidGraphQLRequestError(400, "`operationName` must be a string")
        if not isinstance(variables, dict | None):
            raise InvalidGraphQLRequestError(400, "`variables` must be an object")
        return cls.from_query(query, operation_name or None, variables)

    @classmethod
    def from_query(
        cls, query: str, operation_name: str | None = None, variables: dict[str, Any] | None = None
    ) -> "GraphQLRequest":
        """Parse a query. Raises `InvalidGraphQLRequestError` if it has no such operation."""
        try:
            document = parse(query)
        except (GraphQLError, RecursionError):
            raise InvalidGraphQLRequestError(400, "`query` is not a valid GraphQL document") from None
        operation = get_operation_ast(document, operation_name)
        if operation is None:
            raise InvalidGraphQLRequestError(400, "`query` has no single operation of this name")
        return cls(query, operation_name, variables, document, operation)

    @property
    def mutations(self) -> tuple[str, ...]:
        """Names of the mutations that the operation would run, whatever aliases and fragments they are in.

        Raises `InvalidGraphQLRequestError`.
        """
        if self.operation.operation is not OperationType.MUTATION:
            return ()
        try:
            return tuple(_field_names(self.operation.selection_set, self._fragments(), set()))
        except RecursionError:
            raise InvalidGraphQLRequestError(400, "the fragments of `query` are nested too deeply") from None

    @property
    def targets(self) -> dict[str, str]:
        """What the mutations are about, by name of the variable."""
        return dict(_targets(self.variables))

    def _fragments(self) -> dict[str, FragmentDefinitionNode]:
        return {node.name.value: node for node in self.document.definitions if isinstance(node, FragmentDefinitionNode)}


def _field_names(
    selections: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode], seen: set[str]
) -> Iterator[str]:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from _field_names(node.selection_set, fragments, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            if fragment := fragments.get(node.name.value):
                yield from _field_names(fragment.selection_set, fragments, seen)


def _targets(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _targets(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name in TARGETS and isinstance(item, str):
                yield name, item[:TARGET_LENGTH]
            elif name in TARGETS and isinstance(item, list) and all(isinstance(each, str) for each in item):
                yield name, ("/" if name == "path" else ", ").join(item)[:TARGET_LENGTH]
            else:
                yield from _targets(item)
