"""Questions about the world, which Novice is to decline."""

import random
from typing import Final

from scripts.novice.words import Words, expand

_PEOPLE: Final = (
    "president king queen painter singer poet composer pilot general doctor actor "
    "scientist minister emperor farmer writer dancer sailor inventor mayor judge"
).split()
_PLACES: Final = (
    "France Japan Brazil Kenya Norway Egypt Canada Peru Berlin Tokyo Rome Madrid "
    "Vienna Cairo Sydney London Moscow Delhi Lima Boston Oslo Africa Europe Asia "
    "Texas Chile Italy India Sweden Greece Turkey Portugal Iceland Morocco"
).split()
_THING_LIST: Final = tuple(
    "bread|soup|a cake|a bicycle|a clock|the moon|a volcano|rice|coffee|a violin|the "
    "weather|a tree|photosynthesis|gravity|a black hole|an engine|democracy|a whale|"
    "football|chess|the stock market|love|time|music|the ocean|a dragon|history|"
    "medicine|a headache|a cold|vaccines|electricity|a battery|quantum physics|an atom|"
    "the universe|a virus|Python|Java|a database|a mortgage|taxes|a contract|a river|"
    "an earthquake|a planet|DNA|blood|the brain|sleep|a horse|glass|steel|the sun|"
    "a lawn|a war|religion|philosophy|an election|a bridge|a tax|fishing|a guitar|"
    "the past|the human heart|inflation|a diet|yoga|a rainbow|an eclipse".split("|")
)

PATTERNS: Final = (
    "[What is|What's|Which is] the capital of {place}?",
    "Who [is|was] the [first|last|present|best|most famous|second|] {person} of {place}?",
    "[How|Why|When] [does|did] {thing} [work|begin|end|happen|exist|matter]?",
    "What is {thing}[?| made of?| good for?| in simple words?]",
    "[Write|Compose|Make|Invent] [a|me a|a short] [poem|song|story|essay|joke|letter|"
    "speech|novel|haiku|limerick] about {thing}.",
    "[Explain|Describe|Define|Discuss] {thing}[.| to me.| in detail.| to a child.]",
    "[Translate|Put] '{thing}' into [French|German|Spanish|Japanese|Latin|Italian].",
    "What is the weather [|like ]in {place}[?| today?| tomorrow?]",
    "How [far|long|high|old|big|deep|many people|heavy|hot|cold] is {thing}?",
    "How many [people|cities|rivers|lakes] [are|live|are there] in {place}?",
    "When [did|was] {name} [born|die|discovered|invented|live|win|built]?",
    "Who [is|was|invented|discovered|wrote|painted|won|killed|founded] {name}?",
    "Who [invented|discovered|first made|understood] {thing}?",
    "What do you [think|know|feel|believe] about {thing}?",
    "[Recommend|Suggest|Name|Tell me] [a|me a|a good|the best] [book|film|restaurant|"
    "hotel|recipe|song|game|museum|wine|doctor] [in {place}|about {thing}|for my {person}]"
    ".",
    "Give me a recipe for {thing}.",
    "How do I [cook|make|buy|sell|repair|grow|play|learn|paint|clean|draw|measure|bake] "
    "{thing}?",
    "[Should|Can|May|Must] I [buy|eat|sell|marry|drink|learn|fear|trust] {thing}?",
    "[What|Which] is [bigger|older|better|faster|heavier|cheaper], {thing} or {other}?",
    "[Tell me|Tell] [a joke|a story|the news|something about {thing}|about {place}|"
    "something about {place}|about {name}|a fairy tale].",
    "[Where|Why|When|What] is {name}?",
    "Where [is|lies|can I find] {place}?",
    "What [happened|changed|began] in [17|18|19|20]{n}?",
    "[Write|Program|Code] [a|me a|a small] [program|function|script|game|website] [in "
    "Python|in Java|in C|that shows {thing}|about {thing}].",
    "[Fix|Review|Improve|Check|Correct] my [code|essay|letter|text|grammar|homework].",
    "[Summarise|Summarize|Quote] [the book|the film|the play|the work] {name}.",
    "What [time|day|date|year] is it[?| now?| in {place}?]",
    "Who won the [election|game|match|war|cup|race|prize] in {place}?",
    "What does [the word |]{word} mean?",
    "Is {thing} [dangerous|good|healthy|real|true|expensive|bad|legal|beautiful]?",
    "[I have|My child has|My dog has] [a fever|a cold|a headache|pain|a cough]. What "
    "[should|can] I do?",
    "[Are|Do|Can] [dogs|cats|birds|fish|people|trees|bees] [sleep|dream|think|fly|talk|"
    "feel pain|eat {thing}]?",
    "What [language|food|currency|religion] do they [speak|have|use] in {place}?",
    "[Which|What] {person} [wrote|won|built|made|lost|saw] {name}?",
    "[Plan|Organise|Describe] [a trip|a party|a weekend|a holiday] [to|in] {place}.",
    "[Who|What] is the [richest|tallest|fastest|oldest|strongest|smallest] {person}[?| "
    "in the world?| in {place}?]",
    "What is the [meaning|point|secret|origin|price|colour|taste|smell|use] of {thing}?",
    "[Compare|Contrast] {thing} and {other}.",
    "[Solve|Integrate|Differentiate|Factor] [the equation |]x^2 + {n}x = {n}.",
    "What is the [square root|logarithm|cube|sine|factorial] of {n}?",
    "Why is [the sky blue|grass green|the sea salty|snow white|it dark|fire hot|blood "
    "red|{thing} so {adjective}]?",
)
_ADJECTIVES: Final = "big small red loud old cheap famous rare slow sweet".split()


def ask(rng: random.Random, words: Words) -> str:
    """Draw a question from outside of Novice's world."""
    place = rng.choice(_PLACES) if rng.random() < 0.5 else words.name()  # noqa: PLR2004
    thing = rng.choice(_THING_LIST) if rng.random() < 0.7 else words.word()  # noqa: PLR2004
    name = " ".join(words.words(rng.choice((1, 1, 2)))).title()
    text = expand(rng, rng.choice(PATTERNS))
    return text.format(
        place=place,
        thing=thing,
        other=rng.choice(_THING_LIST),
        name=name,
        word=words.word(),
        person=rng.choice(_PEOPLE),
        adjective=rng.choice(_ADJECTIVES),
        n=rng.randint(10, 99),
    ).replace("  ", " ")
