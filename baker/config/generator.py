"""Settings of generators: where the questions of a target come from.

All types take the same fields, as in the published schema. A field that means nothing to its type is accepted, and the
stim's warnings name it. Stored and shown are the fields that were set and the defaults that a type has of its own.
"""

from typing import Any, ClassVar, get_args

import msgspec

from baker.config import question_templates
from baker.config.ranges import Positive, Questions, Seed, Temperature
from baker.errors import ConfigError
from baker.names import check_name

COMMON_FIELDS = frozenset({"type", "numq", "rollout_with_conditioned"})
MODEL_FIELDS = frozenset({"model", "temperature", "max_tokens", "seed"})


def stored_default(default: Any) -> Any:
    """A field's default that is stored and shown: `omit_defaults` knows only defaults without a factory."""
    return msgspec.field(default_factory=lambda: default)


class GeneratorConfig(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    """The fields of all types; `uses` are those that have an effect."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS
    template_variables: ClassVar[tuple[str, ...]] = ()
    """Those that the type's template must have."""

    numq: Questions | None = None
    """How many questions."""
    questions: list[str] = []
    model: str | None = None
    """Who writes questions: an Anthropic model, or a model served here; absent: the served base model."""
    temperature: Temperature | None = None
    max_tokens: Positive | None = None
    """Tokens of one answer of that model, a list of questions; absent: enough for short ones."""
    dataset: str | None = None
    """A file in the service's `datasets` folder, a known name such as `squad`, or an id of Hugging Face's hub."""
    column: str | None = None
    """The field of the dataset's rows that holds the question; absent: guessed."""
    seed: Seed | None = None
    template_path: str | None = None
    """`templates/<name>`; stands for a text in the repo that asks a model for questions."""
    template_content: str | None = None
    """That text, to be kept in the repo; see `detach_templates`."""
    rollout_with_conditioned: bool = False
    """The rollout answers these questions under the student prompt."""

    def __post_init__(self) -> None:
        if self.template_path is not None:
            question_templates.template_name(self.template_path)
        if self.template_content is not None:
            question_templates.check_content(self.template_content, self.template_variables)
        if self.dataset is not None:
            _check_dataset(self.dataset)

    @property
    def type(self) -> str:
        return str(self.__struct_config__.tag)

    def unused_fields(self) -> list[str]:
        """The fields that were set though they have no effect."""
        return [field for field in msgspec.to_builtins(self) if field not in self.uses]


class Hardcoded(GeneratorConfig, frozen=True, tag="hardcoded"):
    """The questions as they stand; `numq` takes only the first so many."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | {"questions"}


class Asking(GeneratorConfig, frozen=True):
    """A language model is asked for all of the questions."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | MODEL_FIELDS | {"template_path"}

    numq: Questions = stored_default(10)
    temperature: Temperature = stored_default(1.0)


class OneshotQs(Asking, frozen=True, tag="oneshot_qs"):
    """Questions that bring the teacher prompt out."""

    template_variables: ClassVar[tuple[str, ...]] = question_templates.VARIABLES


class Custom(Asking, frozen=True, tag="custom"):
    """What a template of the user's own asks for; it need not have any variable."""


class Persona(GeneratorConfig, frozen=True, tag="persona"):
    """Questions that anyone might be asked, from a bank that ships with the service.

    If a `model` is named, it writes half of them: variations that fit the teacher prompt.
    """

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | MODEL_FIELDS

    numq: Questions = stored_default(25)
    seed: Seed = stored_default(42)
    """Of the drawing from the bank, and of what the model writes."""


class FromDataset(GeneratorConfig, frozen=True, tag="from_dataset"):
    """Rows drawn from a dataset, each at most once."""

    uses: ClassVar[frozenset[str]] = COMMON_FIELDS | {"dataset", "column", "seed"}

    numq: Questions = stored_default(10)
    seed: Seed = stored_default(42)


Generator = Hardcoded | OneshotQs | Persona | FromDataset | Custom

TYPES = tuple(str(kind.__struct_config__.tag) for kind in get_args(Generator))


def without_nulls(generators: list[Any]) -> list[Any]:
    """The generators as a client sent them, without null fields: null and absent are alike.

    Raises: ConfigError, naming the types that there are, if a `type` is not one of them.
    """
    given = []
    for index, generator in enumerate(generators):
        if isinstance(generator, dict):
            generator = {field: value for field, value in generator.items() if value is not None}
            if generator.get("type") not in TYPES:
                raise _type_error(index, generator.get("type"))
        given.append(generator)
    return given


def _type_error(index: int, found: Any) -> ConfigError:
    text = f"{found!r} is no type of generator; there are {', '.join(TYPES)}"
    loc = ["body", "overrides", "generators", str(index), "type"]
    return ConfigError(f"{'.'.join(loc[1:])}: {text}", detail=[{"loc": loc, "msg": text, "type": "value_error"}])


def _check_dataset(dataset: str) -> None:
    """A name, or a hub's `org/name`: never a way out of the folder of datasets."""
    parts = dataset.split("/")
    try:
        for part in parts:
            check_name(part, "dataset")
        if len(parts) > 2:
            raise ConfigError(f"it has {len(parts)} parts")
    except ConfigError as error:
        raise ConfigError(f"dataset must be a name or org/name, never a path, got {dataset!r}: {error}") from error


def detach_templates(generators: list[Generator]) -> tuple[list[Generator], dict[str, str]]:
    """The generators with paths in place of texts, and the texts by name, for the store.

    Raises: ConfigError if two generators give different texts under one name.
    """
    detached: list[Generator] = []
    contents: dict[str, str] = {}
    for generator in generators:
        path, content = generator.template_path, generator.template_content
        if path is None and content is None:
            detached.append(generator)
            continue
        name = question_templates.name_for(content or "") if path is None else question_templates.template_name(path)
        if content is not None and contents.setdefault(name, content) != content:
            raise ConfigError(
                f"generators give {question_templates.template_path(name)!r} two different texts: name them apart"
            )
        fields = {"template_path": question_templates.template_path(name), "template_content": None}
        detached.append(msgspec.structs.replace(generator, **fields))
    return detached, contents
