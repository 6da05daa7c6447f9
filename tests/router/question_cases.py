"""Questions with the parts they split into, and strategies that mix them with any text."""

from hypothesis import strategies as st

SPLITS = [
    (
        "What was the revenue of Norvane Systems in Q2 2025, and which function of the pipeline loads the raw events?",
        [
            "What was the revenue of Norvane Systems in Q2 2025?",
            "which function of the pipeline loads the raw events?",
        ],
    ),
    (
        "Waht was the revenue of Norvane Systems in Q2 2025, and wich function of the pipeline loads the raw events?",
        [
            "Waht was the revenue of Norvane Systems in Q2 2025?",
            "wich function of the pipeline loads the raw events?",
        ],
    ),
    (
        "Wich team meets on Tuesday, how do I get the volume of a sphere, and hwo is the head of the museum?",
        ["Wich team meets on Tuesday?", "how do I get the volume of a sphere?", "hwo is the head of the museum?"],
    ),
    (
        "Hi there, what was the revenue of Norvane Systems in Q2 2025, and who leads Orbit?",
        ["what was the revenue of Norvane Systems in Q2 2025?", "who leads Orbit?"],
    ),
    ("Who leads the Orbit team? When does it meet?", ["Who leads the Orbit team?", "When does it meet?"]),
    ("What is the VAT on bread; which form do I file?", ["What is the VAT on bread?", "which form do I file?"]),
    (
        "Where does Mira Kell live, and also what is her job?",
        ["Where does Mira Kell live?", "what is her job?"],
    ),
    (
        "Find the opening time of the museum, then tell me who works at the bakery.",
        ["Find the opening time of the museum.", "tell me who works at the bakery."],
    ),
    (
        "When does the Harrow Bakery open, as well as who works there?",
        ["When does the Harrow Bakery open?", "who works there?"],
    ),
    (
        "How long is the river Aven, plus what is the height of Mount Orl?",
        ["How long is the river Aven?", "what is the height of Mount Orl?"],
    ),
    (
        "I run a bakery. What is the VAT on bread? Which form do I file?",
        ["I run a bakery. What is the VAT on bread?", "Which form do I file?"],
    ),
    (
        "1. What is a tuple?\n2. Who leads the Orbit team?\n3. Compute 17 * 3.",
        ["What is a tuple?", "Who leads the Orbit team?", "Compute 17 * 3."],
    ),
    (
        "Please answer the following questions:\n- What is a tuple?\n- Who leads the Orbit team?",
        ["What is a tuple?", "Who leads the Orbit team?"],
    ),
    (
        "What was the revenue of Norvane Systems, and in which town does Mira Kell live?",
        ["What was the revenue of Norvane Systems?", "in which town does Mira Kell live?"],
    ),
    (
        "Who is the baker of Harrow and where does he live?",
        ["Who is the baker of Harrow?", "where does he live?"],
    ),
    (
        "Compute 12 * 9, and list the members of the Orbit team.",
        ["Compute 12 * 9.", "list the members of the Orbit team."],
    ),
    (
        "Tell me who leads the Orbit team and when the museum opens.",
        ["Tell me who leads the Orbit team.", "when the museum opens."],
    ),
    (
        "What is the revenue of A.B. Corp. in Q2 2025? Explain list slicing, e.g. with negative steps.",
        ["What is the revenue of A.B. Corp. in Q2 2025?", "Explain list slicing, e.g. with negative steps."],
    ),
    (
        "Is the museum open on Monday, and does it close early?",
        ["Is the museum open on Monday?", "does it close early?"],
    ),
    (
        "What does `a, and what is b` print, and who wrote it?",
        ["What does `a, and what is b` print?", "who wrote it?"],
    ),
    (
        "What is a tuple\nWho leads the Orbit team",
        ["What is a tuple?", "Who leads the Orbit team?"],
    ),
    (
        "What is the capital of Orland? Please tell me also the length of the Aven.",
        ["What is the capital of Orland?", "Please tell me also the length of the Aven."],
    ),
    (
        "What was the net debt of Tidal Foods in Q1 2024, but who is its founder?",
        ["What was the net debt of Tidal Foods in Q1 2024?", "who is its founder?"],
    ),
    (
        "法国的首都是哪里？谁写了这本书？",
        ["法国的首都是哪里？谁写了这本书？"],
    ),
    (
        "Was ist die Hauptstadt von Orland? Wer leitet das Team?",
        ["Was ist die Hauptstadt von Orland?", "Wer leitet das Team?"],
    ),
    (
        "What was the revenue of Norvane Systems in Q2 2025? And in Q3 2025?",
        ["What was the revenue of Norvane Systems in Q2 2025?", "And in Q3 2025?"],
    ),
    (
        "What is recursion, and can you show me who maintains the parser?",
        ["What is recursion?", "can you show me who maintains the parser?"],
    ),
    (
        "What is the VAT on bread, who leads the Orbit team, and how long is the river Aven?",
        ["What is the VAT on bread?", "who leads the Orbit team?", "how long is the river Aven?"],
    ),
    (
        "Tell me who leads the Orbit team, how long the Aven is, and what load_rows returns.",
        ["Tell me who leads the Orbit team.", "how long the Aven is?", "what load_rows returns."],
    ),
    (
        "whats the VAT on bread and whos the leader of the Orbit team",
        ["whats the VAT on bread?", "whos the leader of the Orbit team?"],
    ),
    (
        "what is the vat on bread also who leads the orbit team",
        ["what is the vat on bread?", "who leads the orbit team?"],
    ),
    (
        "I have two questions: who leads the Orbit team, and where does Mira Kell live?",
        ["who leads the Orbit team?", "where does Mira Kell live?"],
    ),
    (
        "About Mira Kell: where does she live, and when does the Harrow Bakery open?",
        ["About Mira Kell: where does she live?", "when does the Harrow Bakery open?"],
    ),
    (
        "Please answer both: who leads the Orbit team and how long is the Aven?",
        ["who leads the Orbit team?", "how long is the Aven?"],
    ),
    (
        "Hi! Who leads the Orbit team and how long is the Aven? Thanks!",
        ["Who leads the Orbit team?", "how long is the Aven?"],
    ),
    (
        "First, who leads the Orbit team? Secondly, how long is the Aven? By the way, where does Mira Kell live?",
        ["who leads the Orbit team?", "how long is the Aven?", "where does Mira Kell live?"],
    ),
    (
        "Give me the VAT on bread, and while you are at it, tell me where Mira Kell lives.",
        ["Give me the VAT on bread.", "tell me where Mira Kell lives."],
    ),
    (
        "How long is the Aven? Oh, and who leads the Orbit team?",
        ["How long is the Aven?", "who leads the Orbit team?"],
    ),
    ("Who leads the Orbit team & how long is the Aven?", ["Who leads the Orbit team?", "how long is the Aven?"]),
    ("Who leads the Orbit team?How long is the Aven?", ["Who leads the Orbit team?", "How long is the Aven?"]),
    ("Who leads the Orbit team...and how long is the Aven?", ["Who leads the Orbit team?", "how long is the Aven?"]),
    (
        "I need the address of Mira Kell and I also need the length of the Aven.",
        ["I need the address of Mira Kell.", "I also need the length of the Aven."],
    ),
    (
        "Look up the height of Mount Orl and look up the VAT on bread",
        ["Look up the height of Mount Orl.", "look up the VAT on bread."],
    ),
    (
        "Tell me the net debt of Tidal Foods in Q1 2024 and the job of Mira Kell.",
        ["Tell me the net debt of Tidal Foods in Q1 2024.", "the job of Mira Kell."],
    ),
    (
        "Give me the formula for the area of a circle and the formula for the volume of a cone.",
        ["Give me the formula for the area of a circle.", "the formula for the volume of a cone."],
    ),
    (
        "1) revenue of Tidal Foods in Q2 2025\n2) leader of the Orbit team",
        ["revenue of Tidal Foods in Q2 2025", "leader of the Orbit team"],
    ),
    (
        "Tell me the debt of Tidal Foods in Q2 2025, the leader of the Orbit team and the length of the Aven.",
        ["Tell me the debt of Tidal Foods in Q2 2025.", "the leader of the Orbit team", "the length of the Aven."],
    ),
    ("Can you help me? Who leads the Orbit team? And who runs it?", ["Who leads the Orbit team?", "who runs it?"]),
    (
        "I was wondering who leads the Orbit team, and how tall the marsh lily grows.",
        ["I was wondering who leads the Orbit team.", "how tall the marsh lily grows."],
    ),
    ("What is `load_rows` and which module is it in?", ["What is `load_rows`?", "which module is it in?"]),
]

WHOLE = [
    "What was the revenue and net income of Norvane Systems in Q2 2025?",
    "Compare A and B.",
    "Compare the revenue of Norvane Systems and Tidal Foods in Q2 2025.",
    "What was the revenue of Norvane Systems in Q2 2025, and in Q3 2025?",
    "What is the difference between a list and a tuple, and when should I use each?",
    "Who decides what is bought and what is sold?",
    "What happens when the queue is full, and when the disk is full?",
    "How do I read a file and write it to disk?",
    "How do I open a file, and write the lines to it?",
    "Write a function that sorts a list and prints the result.",
    'Translate "Who are you, and where do you live? I am here." into French.',
    "Explain what this does: `a = 1; what = 2; print(a)`",
    "What does this print?\n```python\nx = 1; y = 2\n# what is x? and what is y?\nprint(x)\n```",
    "Is 3.14 larger than 2.71, e.g. as a float?",
    "What is it and why?",
    "Who runs it, and when?",
    "I run a bakery, and I sell bread in the U.S. What is the VAT?",
    "Did Dr. J. Smith work at St. Mary and Sons Ltd. in 2024?",
    "Which firms (and which of their subsidiaries) report in euros?",
    "Translate the following sentences. Where is the station? Who are you?",
    "What was the revenue of\nNorvane Systems\nin Q2 2025?",
    "Compare these:\n- apples\n- pears\n- plums",
    "Hello!",
    "And in Q3 2025?",
    "What is the name of the firm which was founded in 1990, and which has 200 employees?",
    "Should I buy bread or milk?",
    "The museum is closed; the bakery is open.",
    "def f(x): return x; print(f(1))",
    "| a | b |\n| - | - |\n| 1 | 2 |",
    "Tell me about Norvane Systems and its founder.",
    "By the way, who leads the Orbit team?",
    "While you are at it, where does Mira Kell live?",
    "Question: how large was the revenue of Tidal Foods in Q3 2024?",
    "Tell me, how long is the Aven?",
    "When it rains, what do people do?",
    "In your opinion, what is the best bread?",
    "What is the name of the library, where Mira Kell works?",
    "What is the revenue of Norvane Systems, which is based in Orland?",
    "Who is the person, who leads the Orbit team?",
    "In which room and on which day does the Orbit team meet?",
    "In which room does the Orbit team meet and on which day?",
    "What is the sum of the area of a circle and the area of a square?",
    "Explain the difference between the area of a circle and the area of a square.",
    "Give me the revenue and the headcount of Tidal Foods in Q2 2025.",
    "Write a poem about who we are, what we do, and where we go.",
    "How do I do the following?\n- open a file\n- read the lines",
    "What do these mean:\n- list[float]\n- dict[str, int]",
]

_PIECES = st.sampled_from(
    [
        *(question for question, _ in SPLITS),
        *WHOLE,
        "```",
        "`",
        '"',
        "(",
        ")",
        "; what is",
        ", and who is",
        "\n- ",
        "🙂",
    ]
)
TEXTS = st.one_of(st.text(max_size=400), st.lists(_PIECES, max_size=12).map(" ".join))
