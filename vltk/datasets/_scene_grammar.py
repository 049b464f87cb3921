"""The grammar of the drawn world: meanings to words with a dependency tree, and words back to meanings.

Sentences are built as dependency trees (Universal Dependencies v2) and read off from left to right,
so their parses are projective and right by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

from vltk.datasets._scene_geometry import SHAPES
from vltk.datasets._scene_meaning import Meaning, Thing
from vltk.datasets._scene_model import ATTRIBUTES, COLOURS, RELATIONS, SIZES, TEXTURES
from vltk.errors import DataError, UsageError, did_you_mean
from vltk.types import Parse

# "A circle left of a square" hangs the square on "left"; "a circle above a square" has no such word.
_ADJECTIVES = ("left", "right", "bigger", "smaller")
_COMPARATIVES = ("bigger than", "smaller than")
NOUN_WITHOUT_SHAPE = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A meaning put into words.

    Attributes:
        template: name of the template.
        words: the lower-case words.
        meaning: what it says.
        spans: for each thing of the meaning its words, as (first, one past the last).
        parse: Universal Dependencies tree of the words.
        tags: universal part of speech of each word.
        slots: (word, thing, attribute) for each word that names an attribute, shapes included.
    """

    template: str
    words: tuple[str, ...]
    meaning: Meaning
    spans: tuple[tuple[int, int], ...]
    parse: Parse
    tags: tuple[str, ...]
    slots: tuple[tuple[int, int, str], ...]

    @property
    def text(self) -> str:
        """The words with single spaces."""
        return " ".join(self.words)


@dataclass(eq=False, slots=True)
class _Node:
    """A word with what hangs on it, on either side, in the order of the sentence."""

    word: str
    tag: str
    left: list[tuple[str, _Node]] = field(default_factory=list)
    right: list[tuple[str, _Node]] = field(default_factory=list)
    thing: int | None = None
    attribute: str | None = None

    def before(self, *parts: tuple[str, _Node]) -> _Node:
        self.left[:0] = parts
        return self

    def after(self, *parts: tuple[str, _Node]) -> _Node:
        self.right += parts
        return self


def _noun_phrase(index: int, thing: Thing, definite: bool) -> _Node:
    named = dict(thing.named())
    noun = named.pop("shape", None)
    adjectives = [("amod", _Node(value, "ADJ", attribute=name, thing=index)) for name, value in named.items()]
    first = next(iter(named.values()), noun or NOUN_WITHOUT_SHAPE)
    article = "the" if definite else "an" if first[0] in "aeiou" else "a"
    head = _Node(noun or NOUN_WITHOUT_SHAPE, "NOUN", thing=index, attribute="shape" if noun else None)
    return head.before(("det", _Node(article, "DET")), *adjectives)


def _word(word: str, tag: str) -> _Node:
    return _Node(word, tag)


def _is() -> tuple[str, _Node]:
    return "cop", _word("is", "AUX")


def _predicate(relation: str, other: _Node) -> _Node:
    """Return the head of "left of OTHER" or "above OTHER"."""
    head, _, preposition = relation.partition(" ")
    other.before(("case", _word(preposition or head, "ADP")))
    return _word(head, "ADJ").after(("obl", other)) if head in _ADJECTIVES else other


def _modified(noun: _Node, relation: str, other: _Node) -> _Node:
    """Return "NOUN left of OTHER"."""
    head = _predicate(relation, other)
    return noun.after(("nmod" if head is other else "amod", head))


def _relative(noun: _Node, *heads: _Node) -> _Node:
    """Return "NOUN that is HEAD (and HEAD)"."""
    clause = _joined(*heads).before(("nsubj", _word("that", "PRON")), _is())
    return noun.after(("acl:relcl", clause))


def _joined(first: _Node, *others: _Node) -> _Node:
    for other in others:
        first.after(("conj", other.before(("cc", _word("and", "CCONJ")))))
    return first


def _copular(subject: _Node, head: _Node) -> _Node:
    return head.before(("nsubj", subject), _is())


def _plural(first: _Node, second: _Node, head: _Node) -> _Node:
    return head.before(("nsubj", _joined(first, second)), ("cop", _word("are", "AUX")))


def _exists(subject: _Node) -> _Node:
    return _word("is", "VERB").before(("expl", _word("there", "PRON"))).after(("nsubj", subject))


def _see(seen: _Node) -> _Node:
    verb = _word("see", "VERB").before(("nsubj", _word("you", "PRON")), ("aux", _word("can", "AUX")))
    return verb.after(("obj", seen))


def _shows(shown: _Node) -> _Node:
    picture = _word("picture", "NOUN").before(("det", _word("the", "DET")))
    return _word("shows", "VERB").before(("nsubj", picture)).after(("obj", shown))


def _has(owner: _Node, owned: _Node, relation: str) -> _Node:
    inner = _modified(owned, relation, _word("it", "PRON"))
    return _word("has", "VERB").before(("nsubj", owner)).after(("obj", inner))


_Build = Callable[[Sequence[_Node], Sequence[str]], _Node]
_Form = tuple[int, tuple[tuple[int, int], ...]]

ONE: _Form = (1, ())
PAIR: _Form = (2, ())
RELATION: _Form = (2, ((0, 1),))
CHAIN: _Form = (3, ((0, 1), (1, 2)))
FORK: _Form = (3, ((0, 1), (0, 2)))
JOIN: _Form = (3, ((0, 2), (1, 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One way of saying things.

    Attributes:
        form: number of things, and which pairs of them stand in a relation; templates of one form paraphrase
            each other.
        build: makes the tree from noun phrases and relations.
        indefinite: things that can only be new ("there is a ...").
        excluded: relations that sound wrong in it.
        held_out: whether it is kept for the test split.
        one_relation: whether it names one relation for all pairs.
    """

    form: _Form
    build: _Build
    indefinite: tuple[int, ...] = ()
    excluded: tuple[str, ...] = ()
    held_out: bool = False
    one_relation: bool = False


TEMPLATES: dict[str, Template] = {
    "exists": Template(form=ONE, indefinite=(0,), build=lambda n, r: _exists(n[0])),
    "see": Template(form=ONE, build=lambda n, r: _see(n[0])),
    "shows": Template(form=ONE, build=lambda n, r: _shows(n[0])),
    "exists-pair": Template(form=PAIR, indefinite=(0, 1), build=lambda n, r: _exists(_joined(n[0], n[1]))),
    "shows-pair": Template(form=PAIR, build=lambda n, r: _shows(_joined(n[0], n[1]))),
    "see-pair": Template(form=PAIR, held_out=True, build=lambda n, r: _see(_joined(n[0], n[1]))),
    "phrase": Template(form=RELATION, build=lambda n, r: _modified(n[0], r[0], n[1])),
    "copular": Template(form=RELATION, build=lambda n, r: _copular(n[0], _predicate(r[0], n[1]))),
    "exists-relation": Template(
        form=RELATION, indefinite=(0,), build=lambda n, r: _exists(_modified(n[0], r[0], n[1]))
    ),
    "see-relation": Template(form=RELATION, build=lambda n, r: _see(_modified(n[0], r[0], n[1]))),
    "has": Template(form=RELATION, indefinite=(0,), excluded=_COMPARATIVES, build=lambda n, r: _has(n[1], n[0], r[0])),
    "inverted": Template(
        form=RELATION,
        excluded=_COMPARATIVES,
        held_out=True,
        build=lambda n, r: _predicate(r[0], n[1]).after(_is(), ("nsubj", n[0])),
    ),
    "exists-relative": Template(
        form=RELATION,
        indefinite=(0,),
        held_out=True,
        build=lambda n, r: _exists(_relative(n[0], _predicate(r[0], n[1]))),
    ),
    "chain": Template(
        form=CHAIN, build=lambda n, r: _copular(n[0], _predicate(r[0], _relative(n[1], _predicate(r[1], n[2]))))
    ),
    "exists-chain": Template(
        form=CHAIN,
        indefinite=(0,),
        build=lambda n, r: _exists(_modified(n[0], r[0], _relative(n[1], _predicate(r[1], n[2])))),
    ),
    "fork": Template(
        form=FORK, build=lambda n, r: _copular(n[0], _joined(_predicate(r[0], n[1]), _predicate(r[1], n[2])))
    ),
    "see-fork": Template(
        form=FORK, build=lambda n, r: _see(_relative(n[0], _predicate(r[0], n[1]), _predicate(r[1], n[2])))
    ),
    "subject-relative": Template(
        form=FORK,
        held_out=True,
        build=lambda n, r: _copular(_relative(n[0], _predicate(r[0], n[1])), _predicate(r[1], n[2])),
    ),
    "join": Template(form=JOIN, one_relation=True, build=lambda n, r: _plural(n[0], n[1], _predicate(r[0], n[2]))),
    "both": Template(
        form=JOIN,
        one_relation=True,
        build=lambda n, r: _plural(n[0].before(("cc:preconj", _word("both", "CCONJ"))), n[1], _predicate(r[0], n[2])),
    ),
}
HELD_OUT_TEMPLATES = tuple(name for name, template in TEMPLATES.items() if template.held_out)


def form_of(meaning: Meaning) -> _Form:
    """Return the number of things and the pairs that stand in a relation."""
    return len(meaning.things), tuple((first, second) for _, first, second in meaning.relations)


def templates_for(meaning: Meaning, *, held_out: bool | None = None) -> list[str]:
    """Return the names of the templates that can say a meaning.

    Args:
        meaning: what is to be said.
        held_out: only templates of the test split (True), only the others (False), or all (None).
    """
    said = {name for name, _, _ in meaning.relations}
    return [
        name
        for name, template in TEMPLATES.items()
        if template.form == form_of(meaning)
        and held_out in (None, template.held_out)
        and not said & set(template.excluded)
        and (len(said) <= 1 or not template.one_relation)
    ]


def express(meaning: Meaning, template: str, definite: Sequence[bool] = ()) -> Sentence:
    """Put a meaning into the words of a template.

    Args:
        meaning: what is to be said.
        template: a name of TEMPLATES.
        definite: for each thing whether it is called "the"; missing ones are "a". Where the template asks
            for a new thing it is always "a".

    Raises:
        UsageError: there is no such template, or it cannot say the meaning.

    Example:
        >>> told = Meaning((Thing(colour="orange", shape="star"), Thing(shape="ring")), (("left of", 0, 1),))
        >>> express(told, "copular", (False, True)).text
        'an orange star is left of the ring'
    """
    if template not in TEMPLATES:
        raise UsageError(f"no template {template!r}", where="scenes", remedy=did_you_mean(template, TEMPLATES))
    if template not in templates_for(meaning):
        fitting = ", ".join(templates_for(meaning)) or "none"
        raise UsageError(
            f"template {template!r} cannot say {meaning}", where="scenes", remedy=f"those that can: {fitting}"
        )
    chosen = TEMPLATES[template]
    articles = [
        index < len(definite) and definite[index] and index not in chosen.indefinite
        for index in range(len(meaning.things))
    ]
    nouns = [_noun_phrase(i, thing, articles[i]) for i, thing in enumerate(meaning.things)]
    return _read_off(template, meaning, chosen.build(nouns, [name for name, _, _ in meaning.relations]))


def _read_off(template: str, meaning: Meaning, root: _Node) -> Sentence:
    ordered: list[tuple[_Node, _Node | None, str]] = []

    def visit(node: _Node, head: _Node | None, relation: str) -> None:
        for label, part in node.left:
            visit(part, node, label)
        ordered.append((node, head, relation))
        for label, part in node.right:
            visit(part, node, label)

    visit(root, None, "root")
    place = {id(node): position for position, (node, _, _) in enumerate(ordered)}
    words = tuple(node.word for node, _, _ in ordered)
    heads = tuple(0 if head is None else place[id(head)] + 1 for _, head, _ in ordered)
    spans = {}
    for node, _, _ in ordered:
        if node.tag == "NOUN" and node.thing is not None:
            start = next(place[id(part)] for label, part in node.left if label == "det")
            spans[node.thing] = (start, place[id(node)] + 1)
    slots = tuple(
        (place[id(node)], node.thing, node.attribute)
        for node, _, _ in ordered
        if node.attribute is not None and node.thing is not None
    )
    return Sentence(
        template=template,
        words=words,
        meaning=meaning,
        spans=tuple(spans[i] for i in range(len(meaning.things))),
        parse=Parse(words=words, heads=heads, relations=tuple(relation for _, _, relation in ordered)),
        tags=tuple(node.tag for node, _, _ in ordered),
        slots=slots,
    )


_VALUES = {value: name for name, values in ATTRIBUTES.items() for value in values}
_Chunk = str | Thing


def _chunks(words: Sequence[str]) -> tuple[list[str], list[Thing], list[str]]:
    """Return the sentence with noun phrases and relations replaced by signs, and what they were."""
    signs: list[str] = []
    things: list[Thing] = []
    relations: list[str] = []
    position = 0
    while position < len(words):
        two = " ".join(words[position : position + 2])
        relation = next((name for name in (two, words[position]) if name in RELATIONS), None)
        end = position + 1
        while words[position] in ("a", "an", "the") and end < len(words) and words[end] in _VALUES:
            end += 1
        if relation is not None:
            relations.append(relation)
            signs.append("R")
            position += len(relation.split())
        elif end < len(words) and words[position] != "picture" and words[end] == NOUN_WITHOUT_SHAPE:
            things.append(Thing(**{_VALUES[word]: word for word in words[position + 1 : end]}))
            signs.append("N")
            position = end + 1
        elif end > position + 1:
            things.append(Thing(**{_VALUES[word]: word for word in words[position + 1 : end]}))
            signs.append("N")
            position = end
        else:
            signs.append(words[position])
            position += 1
    return signs, things, relations


@cache
def _signatures() -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each template its signs, and the order in which it mentions its things."""
    found = {}
    for name, template in TEMPLATES.items():
        things = tuple(Thing(shape=shape) for shape in SHAPES[: template.form[0]])
        meaning = Meaning(things, tuple(("above", a, b) for a, b in template.form[1]))
        sentence = express(meaning, name)
        order = sorted(range(len(things)), key=lambda i: sentence.spans[i])
        found[" ".join(_chunks(sentence.words)[0])] = (name, tuple(order))
    return found


def understand(text: str) -> Sentence:
    """Read a sentence of the grammar back.

    Raises:
        DataError: the words are not a sentence of the drawn world's grammar.

    Example:
        >>> understand("a red star is above the ring").meaning.relations
        (('above', 0, 1),)
    """
    words = text.split()
    signs, mentioned, relations = _chunks(words)
    known = _signatures().get(" ".join(signs))
    if known is None:
        raise DataError(
            f"not a sentence of the drawn world: {text!r}", remedy="use the words and templates of the grammar"
        )
    name, order = known
    template = TEMPLATES[name]
    things = tuple(mentioned[order.index(i)] for i in range(len(order)))
    told = relations * len(template.form[1]) if template.one_relation else relations
    meaning = Meaning(things, tuple((told[k], a, b) for k, (a, b) in enumerate(template.form[1])))
    plain = express(meaning, name)
    return express(meaning, name, [words[start] == "the" for start, _ in plain.spans])


def vocabulary() -> tuple[str, ...]:
    """Return every word of the grammar, sorted."""
    found = {"a", "an", "the", NOUN_WITHOUT_SHAPE, *SHAPES, *COLOURS, *TEXTURES, *SIZES}
    found.update(word for relation in RELATIONS for word in relation.split())
    found.update(word for signs in _signatures() for word in signs.split() if word not in ("N", "R"))
    return tuple(sorted(found))
