"""What Novice knows how to do with Cloister: the questions and the answers.

Each topic has one answer, so that a greedy decoder has one thing to say, and
many ways to be asked: `actions` complete sentences such as "How do I …?", and
`openings` stand alone. `[this|that]` marks a choice.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Topic:
    """Something an operator wants to do.

    `command` is the part of the answer that must be there word for word.
    """

    key: str
    command: str
    answer: str
    actions: tuple[str, ...]
    openings: tuple[str, ...] = ()


FORMS: Final = (
    "How do I {}?",
    "How do I {}?",
    "How can I {}?",
    "How can one {}?",
    "How would I {}?",
    "how to {}",
    "How to {}?",
    "What is the command to {}?",
    "[What|Which] command [lets me|is there to|do I need to|do I use to] {}?",
    "What do I [type|run|enter|do] to {}?",
    "What [must|should] I [type|run|do] to {}?",
    "[Tell|Show] me how to {}.",
    "[Please|Can you|Could you] [tell|show] me how to {}",
    "I [want|need|have|would like] to {}. [What do I do?|How?|Which command?|]",
    "Explain how to {}.",
    "Is there a [way|command] to {}?",
    "Can I {}? How?",
    "Can Cloister {}?",
    "[Give me|I need|Show me] the command to {}.",
    "[What is|What's] the [best|right|easiest] way to {}?",
    "Help me {}.",
    "My task is to {}.",
    "{}",
)

_MODEL = "[a|the|my|one|this|some] [model|GGUF|GGUF file|model file|.gguf file|file]"
_STICK = "[USB disk|USB stick|stick|USB drive|disk|drive|removable medium|CD]"
_SERVER = "[the server|Cloister|the service|it]"
_NETWORK = "[the network|the internet|the outside|outside]"

SIDELOAD: Final = Topic(
    "sideload",
    "make sideload MODEL=",
    "Run `make sideload MODEL=path.gguf`. It checks the file and puts it into the "
    "model store; add `SHA256=…` to compare the checksum.",
    (
        f"[sideload|side-load|put in|bring in|add|carry in|bring over|hand in] {_MODEL}",
        f"[copy|move|bring|get|put|transfer|take|carry] {_MODEL} from [a|my|the|this] "
        f"{_STICK} [into|to|onto] [Cloister|the store|the server|the model store]",
        f"[add|put|get|bring|install] {_MODEL} [by hand|from a {_STICK}|from a file|"
        "without a network|without the internet|without download|from local disk]",
        "[use|install|add] a file [that I have here|from disk|from my "
        f"{_STICK}|I was given]",
        f"[get|put|place] {_MODEL} [into|in] [Cloister|the store|the model store]",
        "do a sideload",
        "[sideload|add] models on [a closed|an air-gapped|an offline] machine",
    ),
    (
        f"I have {_MODEL} on [a|my] {_STICK}. [What now?|How do I add it?|What next?|"
        "How does it get into Cloister?|Where do I put it?]",
        f"There is {_MODEL} on [the|my|this] {_STICK}. [What now?|How do I use it?|"
        "How do I get it in?]",
        "How does sideloading work?",
        "What is [sideloading|a sideload|make sideload]?",
        f"Somebody gave me {_MODEL} on a {_STICK}[.|, what do I do?|, how do I use it?]",
    ),
)

IMPORT: Final = Topic(
    "import",
    "cloister import PATH --sha256 HEX",
    "Run `cloister import PATH --sha256 HEX`. A file whose SHA-256 is not HEX is kept "
    "out, and both digests are shown.",
    (
        f"[import|add|sideload|bring in|take in] {_MODEL} [with|against|by] [a|its|the] "
        "[checksum|SHA-256|digest|SHA256|hash|sha256 sum]",
        "[check|compare|test] the [checksum|SHA-256|digest|hash] [while|when|during|"
        "before] [importing|adding|import|sideloading|I import a model]",
        f"import {_MODEL}",
        "import [with a checksum|a file and its SHA-256|a model and check it]",
        "[be sure|make sure|ensure] that an imported file [is the right one|has the "
        "right checksum|is not changed|is genuine]",
        "use the [SHA-256|checksum|digest] [from|on] [a sheet of paper|a list|the sheet]",
    ),
    (
        "I have [a model|a file|a GGUF] and [its|a] [SHA-256|checksum|digest]. [What "
        "now?|How do I import it?|How do I use both?]",
        "How does [cloister import|importing|import] work?",
        "[The checksum|The SHA-256|A digest] is on [paper|a sheet]. How do I [use|check|"
        "give] it?",
    ),
)

VERIFY: Final = Topic(
    "verify",
    "cloister verify",
    "Run `cloister verify`. It hashes the models in the store again and names each "
    "damaged file.",
    (
        "[verify|check|test|re-check|inspect|examine|validate] [a|the|my|all|the stored] "
        "[model|models|model files|files] [|again|for damage|for errors|on disk|in the "
        "store]",
        "[see|find out|know|check|tell|learn] [whether|if] [a|the|my] [model|file|"
        "model file|GGUF] is [damaged|broken|intact|corrupt|still good|bad|unchanged|ok]",
        "[find|detect|look for|discover|search for] [damaged|broken|bad|corrupt|changed] "
        "[models|files|bytes|model files]",
        "[hash|re-hash|checksum] [the|my|all] [models|files|store] [again|]",
        "check [the store|the model store|the integrity of a model|my models|integrity]",
        "[prove|make sure] that [no file|no model|nothing] [changed|is damaged|was changed]",
    ),
    (
        "[Is my model|Are my models|Are the files] still [good|intact|ok|fine|unchanged]?",
        "What does [verify|cloister verify] do?",
        "I fear [the|a|my] [disk|file|model] is [damaged|broken|bad]. [What now?|What "
        "can I do?|How do I check?]",
        "How does verify work?",
    ),
)

OFFLINE: Final = Topic(
    "offline",
    "cloister serve --offline",
    "Run `cloister serve --offline`. The seal then blocks every outgoing connection of "
    "the server and its workers.",
    (
        f"[run|start|use|serve|operate|launch] [{_SERVER}|Cloister] [offline|without a "
        "network|with no network|sealed|without the internet|with the seal|in offline "
        "mode]",
        f"[cut|seal|close|shut|keep|lock] {_SERVER} off from {_NETWORK}",
        "[seal|isolate] [the server|Cloister|it|it completely]",
        "[block|forbid|stop|deny|prevent|switch off] [all|any|every] [network|outgoing|"
        "outside|internet] [traffic|access|connections|use]",
        "[turn on|switch on|enable|activate|set|use] [offline mode|the seal|the offline "
        "seal|--offline|the offline flag]",
        "[make sure|be sure|ensure] [the server|Cloister|it|that nothing] [uses no "
        "network|makes no connection|stays offline|calls nobody|talks to nobody]",
        "[go|stay|be|work|remain] offline",
        f"keep {_SERVER} from [calling home|using the network|going online]",
    ),
    (
        "What [does|is] [--offline|the offline mode|the offline flag|the seal|offline "
        "mode]?",
        f"[The server|Cloister] must not [reach|use|talk to|see] {_NETWORK}. [How?|What "
        "do I do?|What do I run?|]",
        "How do I [serve|start|run] offline?",
        "No [traffic|packet|connection] may leave [this machine|the server]. [How?|]",
    ),
)

PROVE: Final = Topic(
    "prove",
    "cloister doctor --prove-offline",
    "Run `cloister doctor --prove-offline`. It tries many ways out of the seal and "
    "reports that each one fails.",
    (
        "[prove|show|demonstrate|document] [that|to an auditor that|to security that] "
        "[the server|Cloister|it|nothing] [is offline|is sealed|uses no network|makes no "
        "connection|calls home|gets out|is cut off]",
        "[prove|test|check|audit|examine] [the seal|the offline seal|offline mode|that it "
        "is offline|the offline claim]",
        "[get|have|make|write|produce] [a proof|proof|a report|evidence] [of|about|for] "
        "[the seal|offline mode|being offline|silence]",
        "[see|know|find out|check|be certain] [whether|that|if] the seal [works|holds|is "
        "tight|is real]",
        "[run|use|start] [the doctor|cloister doctor]",
    ),
    (
        "How [do I know|can I be sure|can I trust|do you prove] that it is [really|truly] "
        "offline?",
        "What does [the doctor|cloister doctor|prove-offline] do?",
        "[Security|My boss|The auditor] [wants|asks for] [proof|a proof|evidence]. [How?|"
        "What do I run?|]",
    ),
)

TOKEN: Final = Topic(
    "token",
    "cloister token create",
    "Run `cloister token create`. The token is shown once; send it as `Authorization: "
    "Bearer TOKEN`.",
    (
        "[create|make|get|issue|generate|obtain|set up|add] [a|an|a new|another|my] "
        "[token|API token|API key|access token|key|access key|secret]",
        "[protect|secure|guard|lock] [the server|Cloister|the API|my server] [with|by] "
        "[a token|tokens|a key|an API key|a password|passwords]",
        "[give|allow|grant] [a colleague|a user|somebody|a program|another person] "
        "[access|a token|a key]",
        "[require|demand|ask for|want] [a token|an API key|keys|authentication|a login]",
        "[use|manage|handle] [tokens|API keys|API tokens]",
        "[log in|authenticate|sign in]",
    ),
    (
        "[Where|How] do I get [a token|an API key|a key]?",
        "[I need|I want] [a token|an API key|a key|a new token][.| for a user.]",
        "The server [asks for|wants] [a token|a key]. [Where do I get one?|What now?]",
        "How do [tokens|API keys] work?",
    ),
)

LOAD: Final = Topic(
    "load",
    "cloister serve --models-dir DIR",
    "Run `cloister serve --models-dir DIR`. A model is loaded by the first request that "
    "names it.",
    (
        "[load|serve|start|use|run|open] [a|my|another|a bigger|a different|the] "
        "[model|own model|language model|other model|GGUF model]",
        "[serve|use|load|point it at] [my|a|the|an existing] [models directory|models "
        "folder|folder of models|directory of models|LM Studio folder|model folder]",
        "[set|change|choose|name|give] the [models directory|models folder|model "
        "directory|folder with models]",
        "[switch|change] to [another|a different|a larger] model",
        "load [a model|models] into memory",
        "[use|serve] the models of LM Studio",
    ),
    (
        "When is a model loaded?",
        "[Where|How] do [models|my models] get loaded?",
        "[My|The] models [are|lie] in [a|another] [folder|directory]. [How do I serve "
        "them?|What now?|How do I use them?]",
        "How does loading work?",
        "Does it load models by itself?",
    ),
)

DOWNLOAD: Final = Topic(
    "download",
    "cloister get REPO",
    "Run `cloister get REPO` on a machine with a network. It downloads the model, checks "
    "its SHA-256 and records where it came from.",
    (
        "[download|fetch|pull|get] [a|another|a new|some] [model|GGUF|language model] "
        "[|from the hub|from the internet|from Hugging Face|ahead|from a repository]",
        "[get|fetch] models [on the connected side|online|from the net|from a hub]",
        "[prepare|fill] [a|the] models directory [on a connected machine|ahead|with a "
        "network]",
        "do a download",
    ),
    ("Where do [models|the models] come from?", "How does [downloading|a download] work?"),
)

SELFTEST: Final = Topic(
    "selftest",
    "cloister selftest",
    "Run `cloister selftest`. It loads me in a real worker, checks chat, tools, JSON and "
    "more, and prints a table.",
    (
        "[test|check|accept|try|examine|prove] [the|my|this|a new|an] [installation|"
        "install|setup|machine|engine]",
        "[run|start|do|use] [the|a] [selftest|self-test|self test|acceptance test]",
        "[see|know|find out|check|tell] [whether|if|that] [the|my] [installation|"
        "setup|engine|install] [works|is good|is fine|runs]",
        "[see|know|check] [whether|if] everything works",
    ),
    (
        "What [is|does] [the selftest|cloister selftest|the self-test] [do|for]?",
        "[Does everything|Does my installation|Is everything] [work|working|in order]?",
    ),
)

INSTALL: Final = Topic(
    "install",
    "make install",
    "Run `make install`. It puts everything into `.venv` and proves that the engine "
    "computes.",
    (
        "[install|set up|build|compile] [Cloister|the server|the software|this|"
        "the engine|everything]",
        "[begin|get started] [with the installation|with a fresh clone|with installing]",
        "[do|make] [an|the] installation [|of Cloister]",
    ),
    ("[How|What] do I install?", "What does make install do?"),
)

RUN: Final = Topic(
    "run",
    "make run",
    "Run `make run`. It installs what is missing and serves on http://127.0.0.1:1234.",
    (
        "[start|run|launch|bring up|boot|fire up] [Cloister|the server|it|the service]",
        "[start|begin] serving",
        "[get|bring] the server [running|up|started|going]",
    ),
    (
        "What does make run do?",
        "[How do I|Where do I] start?",
        "The server is not [running|up]. [What now?|How do I start it?]",
    ),
)

LIST: Final = Topic(
    "list",
    "cloister ls",
    "Run `cloister ls`. It lists the models with their sizes.",
    (
        "[list|see|show|view|look at|display] [the|all|my|all my] [models|stored models|"
        "installed models|models I have]",
        "[find out|see|know|learn] which models [there are|I have|are installed|are there]",
    ),
    (
        "[What|Which] models [are there|do I have|are installed|are in the store]?",
    ),
)

REPAIR: Final = Topic(
    "repair",
    "cloister repair MODEL --from PATH",
    "Run `cloister repair MODEL --from PATH`. It writes only the damaged parts again, "
    "from a good copy.",
    (
        "[repair|fix|mend|heal|restore] [a|my|the] [damaged|broken|bad|corrupt] [model|"
        "file|model file|GGUF]",
        "[repair|mend|fix] [a model|bad bytes|a file|my model]",
    ),
    (
        "[A|My|The] [model|file] is [damaged|broken|corrupt]. How do I [repair|fix|mend] "
        "it?",
    ),
)

BUNDLE: Final = Topic(
    "bundle",
    "cloister bundle create MODEL --out FILE",
    "Run `cloister bundle create MODEL --out FILE`. The bundle is a plain tar with the "
    "models and their checksums.",
    (
        "[make|create|pack|write|build] [a|one] [bundle|package|bundle of models|tar]",
        "[pack|bundle|bundle up|wrap up] [models|a model|my models] [|to carry them over|"
        "for the closed side|for another machine|in one file]",
        "[carry|take|move|ship] models [across the gap|to the closed side|over the gap|"
        "to another machine]",
    ),
    ("What is a bundle?", "How do models get [across|over] the [air gap|gap]?"),
)

REMOVE: Final = Topic(
    "remove",
    "cloister rm MODEL",
    "Run `cloister rm MODEL`. It asks before it deletes the model from the store.",
    (
        "[remove|delete|erase|throw away|get rid of|drop] [a|the|an old|my|one] [model|"
        "model file|GGUF]",
        "[free|win back|get back] disk space",
    ),
    ("I no longer need a model.", "The disk is full."),
)

PORT: Final = Topic(
    "port",
    "cloister serve --port N",
    "Run `cloister serve --port N`. The default is port 1234.",
    (
        "[change|set|choose|use] [the|another|a different] port",
        "[listen|serve] on [another|a different] port",
    ),
    (
        "[Which|What] port [does it use|is used|does Cloister listen on|is the default]?",
        "Port 1234 is [in use|taken].",
        "The port is [in use|taken]. What now?",
    ),
)

CLIENT: Final = Topic(
    "client",
    "http://127.0.0.1:1234/v1",
    "Point the OpenAI SDK at `http://127.0.0.1:1234/v1`. Any API key will do unless the "
    "server asks for a token.",
    (
        "[use|connect|call it with|talk to it with] [the OpenAI SDK|an OpenAI client|the "
        "openai package|my program|Python]",
        "[connect|talk|send requests] to [the server|Cloister|the API]",
        "[call|use|reach|query] the [API|server's API|chat API|endpoint]",
    ),
    (
        "[What|Which] [is the|is the right] [base URL|address|URL|endpoint] [|of the API|"
        "of the server]?",
        "Where does [the server|Cloister|it] listen?",
        "What [URL|address|base URL] do I [use|need|set]?",
    ),
)

SHA: Final = Topic(
    "sha",
    "sha256sum FILE",
    "Run `sha256sum FILE` and compare the result with the digest you were given.",
    (
        "[compute|calculate|find|get|print|work out] [the|a] [SHA-256|sha256|checksum|"
        "digest] of a file",
    ),
    ("What is the [checksum|SHA-256|digest] of [a|my] file?",),
)

TOPICS: Final = (
    SIDELOAD,
    IMPORT,
    VERIFY,
    OFFLINE,
    PROVE,
    TOKEN,
    LOAD,
    DOWNLOAD,
    SELFTEST,
    INSTALL,
    RUN,
    LIST,
    REPAIR,
    BUNDLE,
    REMOVE,
    PORT,
    CLIENT,
    SHA,
)
MAIN_TOPICS: Final = (SIDELOAD, IMPORT, VERIFY, OFFLINE, LOAD, TOKEN)
"""Asked about more often, in training and evaluation."""
