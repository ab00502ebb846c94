"""A GraphQL request over HTTP, parsed once; what is decided on is exactly what is executed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    get_operation_ast,
    parse,
    validate,
)
from graphql.execution.collect_fields import collect_fields
from graphql.execution.values import get_argument_values, get_variable_values
from starlette.requests import Request

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.webserver.launch_rules import shorten

# Many times what the UI's longest queries have. A megabyte of names would keep the webserver busy for minutes.
MAX_TOKENS = 20_000
MAX_QUERY_LENGTH = 200_000
# Variables included: a backfill names each of its partitions.
MAX_BODY_BYTES = 10_000_000
# Arguments that name what a mutation is about; their values may be logged.
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


class InvalidGraphQLRequestError(SyncPipelineError):
    """A request to the GraphQL endpoint cannot be executed as it is."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status
        self.problem = problem


class InvalidGraphQLArgumentsError(SyncPipelineError):
    """A mutation does not fit Dagster's schema; `errors` are as GraphQL reports them."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class InputValue:
    """A value in the arguments of a mutation, with the name and the GraphQL type of its argument or field."""

    name: str
    type: str
    value: object


@dataclass(frozen=True, slots=True)
class MutationCall:
    """A mutation with everything in its arguments, at any depth."""

    name: str
    inputs: tuple[InputValue, ...]

    def of_type(self, type_name: str) -> list[Any]:
        """Return the values of a GraphQL type."""
        return [each.value for each in self.inputs if each.type == type_name]

    def named(self, name: str) -> list[Any]:
        """Return the values of an argument or field."""
        return [each.value for each in self.inputs if each.name == name]

    @property
    def targets(self) -> dict[str, str]:
        """What the mutation is about, for the audit log."""
        found: dict[str, str] = {}
        for each in self.inputs:
            values = each.value if isinstance(each.value, list) else [each.value]
            parts = [value for value in values if isinstance(value, str)]
            if each.name in TARGETS and parts:
                text = ("/" if each.name == "path" else ", ").join(parts)
                found[each.name] = shorten(f"{found[each.name]}, {text}" if each.name in found else text)
        return found


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
        if method != "POST" or not is_json(headers):
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
        if len(query) > MAX_QUERY_LENGTH:
            raise InvalidGraphQLRequestError(413, f"`query` has more than {MAX_QUERY_LENGTH} characters")
        try:
            document = parse(query, max_tokens=MAX_TOKENS)
        except (GraphQLError, RecursionError):
            problem = f"`query` is not a valid GraphQL document of up to {MAX_TOKENS} tokens"
            raise InvalidGraphQLRequestError(400, problem) from None
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

    def mutation_calls(self, schema: GraphQLSchema) -> list["MutationCall"]:
        """Return the mutations with the arguments that Dagster would pass, from literals and variables alike.

        Raises `InvalidGraphQLArgumentsError` if Dagster would refuse to execute them.
        """
        mutation_type = schema.mutation_type
        if self.operation.operation is not OperationType.MUTATION or mutation_type is None:
            return []
        errors = validate(schema, self.document)
        if errors:
            raise InvalidGraphQLArgumentsError(errors)
        coerced = get_variable_values(schema, self.operation.variable_definitions, self.variables or {})
        if isinstance(coerced, list):
            raise InvalidGraphQLArgumentsError(coerced)
        selected = collect_fields(schema, self._fragments(), coerced, mutation_type, self.operation.selection_set)
        try:
            return [
                MutationCall(node.name.value, tuple(_input_values(field, get_argument_values(field, node, coerced))))
                for nodes in selected.values()
                for node in nodes
                if (field := mutation_type.fields.get(node.name.value))
            ]
        except GraphQLError as error:
            raise InvalidGraphQLArgumentsError([error]) from None

    def _fragments(self) -> dict[str, FragmentDefinitionNode]:
        return {node.name.value: node for node in self.document.definitions if isinstance(node, FragmentDefinitionNode)}


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether the body is declared as JSON.

    A browser asks this server before it sends JSON for a page of another site; other types it sends unasked.
    """
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


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


def _input_values(field: GraphQLField, arguments: Mapping[str, object]) -> Iterator[InputValue]:
    for name, argument in field.args.items():
        yield from _flatten(name, argument.type, arguments.get(argument.out_name or name))


def _flatten(name: str, declared: GraphQLInputType, value: object) -> Iterator[InputValue]:
    """Yield a value and, if it is a list or an object, everything in it."""
    if value is None:
        return
    named = get_named_type(declared)
    if isinstance(value, list | tuple) and isinstance(named, GraphQLInputObjectType):
        for item in value:
            yield from _flatten(name, named, item)
        return
    yield InputValue(name, named.name, value)
    if isinstance(named, GraphQLInputObjectType) and isinstance(value, Mapping):
        for field_name, field in named.fields.items():
            yield from _flatten(field_name, field.type, value.get(field.out_name or field_name))


async def read_body(request: Request) -> bytes:
    """Return the body of a request, but do not read on past the limit. Raises `InvalidGraphQLRequestError`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise InvalidGraphQLRequestError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    return bytes(body)
