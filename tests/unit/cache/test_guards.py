"""What tells two prompts apart, whatever their vectors say."""

import json

import pytest

from ollama_proxy.cache.guards import find_anchors, find_difference
from tests.support.processes import ROOT

PAIRS = [
    json.loads(line)
    for name in ("pairs", "forms", "quantities")
    for line in (ROOT / f"examples/caching/{name}.jsonl").read_text().splitlines()
]
#: The kinds of `quantities.jsonl` of which not a single pair may pass.
QUANTITIES = frozenset(
    (
        "address",
        "bytes",
        "chemical",
        "code",
        "count",
        "date",
        "decimal",
        "distance",
        "electric",
        "exponent",
        "fraction",
        "grade",
        "heat",
        "length",
        "letter",
        "money",
        "note",
        "ordinal",
        "paper",
        "percent",
        "power",
        "quoted",
        "range",
        "ratio",
        "reported",
        "roman",
        "screen",
        "sign",
        "size",
        "span",
        "sum",
        "tax",
        "time",
        "unit",
        "version",
    )
)


def tell_apart(one: str, other: str) -> str:
    return find_difference(find_anchors(one), find_anchors(other))


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("What is 3 times 7?", "What is 4 times 7?", "numbers"),
        ("What is three times 7?", "What is four times 7?", "numbers"),
        ("What is three times 7?", "What is 3 times 7?", ""),
        ("What is 10 divided by 2?", "What is 2 divided by 10?", "numbers"),
        ("What happened on 2024-01-02?", "What happened on 2024-02-01?", "numbers"),
        ("Is -40 cold?", "Is 40 cold?", "numbers"),
        ("Is it safe to take .5 mg of it?", "Is it ok to swallow 5 mg of it?", "numbers"),
        ("How much is 1e5 divided by 7?", "How much is 1e9 divided by 7?", "numbers"),
        ("Is 100g of rice enough?", "Is 100kg of rice enough?", "numbers"),
        ("Is 100g of rice enough?", "Would 100g of rice be enough?", "modality"),
        ("How long does 10 mb take?", "How long are 10 gb on their way?", "numbers"),
        ("Is the shop open at 8am?", "Is this shop open at 8pm?", "numbers"),
        ("Is the shop open at 8 am?", "Is this shop open at 8 pm?", "numbers"),
        ("Is it paid by plan a?", "Is it paid by plan?", "numbers"),
        ("Is a hepatitis a vaccine safe?", "Is a hepatitis vaccine safe?", "numbers"),
        ("Is my plan a for the house good?", "Is my plan for the house good?", "numbers"),
        ("How did world war i end?", "How did world war ii end?", "numbers"),
        ("Is one week enough?", "Is the first week enough?", "numbers"),
        ("Is half of it enough?", "Is -1 of it enough?", "numbers"),
        ("Is 10 in long?", "Is 10 long?", "numbers"),
        ("Is rm -f safe?", "Is rm f safe?", "numbers"),
        ("Is git push --tags safe?", "Is git push tags safe?", "literals"),
        ("What does getItem do?", "What does getitem do?", "names"),
        ("Are regular verbs hard to learn?", "Is learning irregular verbs hard?", "opposite"),
        ("What if I pay my taxes?", "What if I dont pay my taxes?", "negations"),
        ("Do I grow a plant?", "Do I grow plants?", ""),
        ("Could you please tell me if 5 mg is safe?", "I want to know if 5 mg is safe.", ""),
        ("Is the drug safe?", "Is the drug not safe?", "negations"),
        ("Is the drug safe?", "Isn't the drug safe?", "negations"),
        ("What is the weather in Paris?", "What is the weather in London?", "names"),
        ("How do I travel from Paris to London?", "How do I travel from London to Paris?", "names"),
        ("Which dish is good for the man?", "Which dish is good for the woman?", "telling"),
        ("Is it open on a monday?", "Is it open on a friday?", "telling"),
        ("How do I enable the login?", "How do I disable the login?", "telling"),
        ("When was the bridge built?", "Where was the bridge built?", "asks"),
        ("Does the dog chase the cat?", "Does the cat chase the dog?", "order"),
        ("How do I boil an egg?", "How do I fry an egg?", "exchanged"),
        ("How do I cook rice?", "How do I cook rice with saffron?", "added"),
        ("What does `ls -a` do?", "What does `ls -l` do?", "numbers"),
        ("How do I write a function in C++?", "How do I write a function in C?", "numbers"),
        ("What does the operator += do?", "What does the operator do?", "literals"),
        ("Do you like to play chess?", "Do you play chess?", "modality"),
        ("What is a heat pump for?", "What is a heat pump?", "ending"),
        ("What is the new teacher like?", "What is the new teacher?", "ending"),
        ("Where do I get it from?", "From where do I get it?", "ending"),
        ("Is example.com down?", "Is example.org down?", "literals"),
        ("Wie wird das Wetter?", "Wie wird das Wetter?", "language"),
        ("Is the bridge closed?", "Was the bridge closed?", "tense"),
        ("What happened to Carthage?", "What will happen to Carthage?", "tense"),
        ("Has the mail come?", "Will the mail come?", "tense"),
        ("How do I pay you?", "How do you pay me?", "persons"),
        ("Could our lawyer read my letter?", "Could my lawyer read our letter?", "persons"),
        ("Do cats swim?", "How do cats swim?", "form"),
        ("How do cats swim?", "What do cats swim?", "form"),
        ("Can I keep goats?", "How can I keep goats?", "form"),
        ("Can I eat acorns?", "Do I eat acorns?", "modality"),
        ("Do I need a coat?", "Do I want a coat?", "modality"),
        ("Is it painted by hand?", "Is it painted on hand?", "places"),
        ("How can I reset my router?", "How do I reset a router?", ""),
        ("Could you please tell me if cats swim?", "I want to know if cats swim.", ""),
        ("Can you explain to me what inflation is?", "What is inflation?", ""),
        ("How do I boil an egg?", "What is the way to boil eggs?", ""),
        ("Why is the sky blue?", "Please explain why the sky is blue.", ""),
    ],
)
def test_what_tells_two_apart(one: str, other: str, difference: str) -> None:
    assert tell_apart(one, other) == difference
    assert tell_apart(other, one) == difference


def test_no_pair_that_means_something_else_passes() -> None:
    """So that even of vectors that were all alike not one in a hundred would be a wrong hit."""
    different = [pair for pair in PAIRS if not pair["same"]]
    assert len(different) >= 1500
    passed = [pair for pair in different if not tell_apart(pair["a"], pair["b"])]
    assert len(passed) <= 0.01 * len(different), passed


def test_no_other_quantity_passes() -> None:
    """Value, sign, unit, letter or numeral: none of them is a matter of likeness."""
    told = [pair for pair in PAIRS if not pair["same"] and pair["kind"] in QUANTITIES]
    assert len(told) >= 800
    passed = [pair for pair in told if not (tell_apart(pair["a"], pair["b"]) and tell_apart(pair["b"], pair["a"]))]
    assert passed == []


def test_most_of_those_that_mean_the_same_do() -> None:
    for kinds, share in ((QUANTITIES, 0.45), ({"paraphrase"}, 0.7)):
        same = [pair for pair in PAIRS if pair["same"] and pair["kind"] in kinds]
        passed = [pair for pair in same if not tell_apart(pair["a"], pair["b"])]
        assert len(passed) >= share * len(same)


def test_hostile_texts_take_no_time() -> None:
    for text in ("'" * 600, "a'" * 300, "`" * 599, '"a ' * 200, "1." * 300, "\x00" * 600, "x" * 600, "/ " * 300):
        find_anchors("what is " + text)
    for text in (
        "please " * 85,
        "can you tell me " * 37,
        "i want to " * 60,
        "hello" + " " * 590 + "x",
        "what is the " * 50,
    ):
        find_anchors(text)
