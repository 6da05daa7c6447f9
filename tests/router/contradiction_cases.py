"""Pairs of sub-queries and sub-answers, by hand: which contradict each other and which only look as if they did."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """Two sub-queries with their answers; `kind` None says that there is no contradiction."""

    kind: str | None
    first: tuple[str, str]
    second: tuple[str, str]


_REVENUE = "What was Acme's revenue in 2023?"
_SAID = "Acme's revenue in 2023 was 412.5 million euros [1]."

CONTRADICTING = (
    Case("figure", (_REVENUE, _SAID), (_REVENUE, "In 2023, Acme reported revenue of 421.5 million euros [1].")),
    Case("figure", (_REVENUE, "412.5 million euros [1]."), (_REVENUE, "It was 421.5 million euros [1].")),
    Case("figure", (_REVENUE, _SAID), ("How much did Acme sell?", "Acme's sales in 2023 were €421.5m [1].")),
    Case("figure", (_REVENUE, "€412,500,000 [1]"), (_REVENUE, "Acme's revenue reached EUR 421,500,000 [1].")),
    Case("figure", (_REVENUE, _SAID), (_REVENUE, "Thanks to strong demand, revenue was 0.5 billion euros [1].")),
    Case("figure", (_REVENUE, _SAID), (_REVENUE, "Revenue was over 500 million euros [1].")),
    Case(
        "figure", (_REVENUE, _SAID), (_REVENUE, "Revenue was 421.5 million euros, up 3 percent from the year before.")
    ),
    Case(
        "figure",
        ("What was Acme's revenue in Q2 2024?", "It was 10 million dollars."),
        ("What was the revenue of Acme in the second quarter of 2024?", "Acme made 12 million dollars."),
    ),
    Case(
        "figure",
        ("How many employees does Acme have?", "Acme has 500 employees."),
        ("Tell me about Acme's staff.", "Acme has 620 employees."),
    ),
    Case(
        "figure",
        ("How many ships does Harrow own?", "12."),
        ("What does Harrow own?", "Harrow owns 14 ships."),
    ),
    Case(
        "figure",
        ("How many ships does Harrow own?", "Harrow owns twelve ships."),
        ("How many ships does Harrow own?", "Harrow owns 14 ships."),
    ),
    Case(
        "figure",
        ("How long is the Calder bridge?", "The Calder bridge is 1.2 km long."),
        ("How long is the Calder bridge?", "The Calder bridge is 900 m long."),
    ),
    Case(
        "figure",
        ("How high is Mount Harrow?", "Mount Harrow is 812 metres high."),
        ("What is the height of Mount Harrow?", "820 m"),
    ),
    Case(
        "figure",
        ("What is Norway's inflation?", "Inflation in Norway is 4.2 % [1]."),
        ("What is the inflation of Norway?", "Norway's inflation is 3.1 percent [1]."),
    ),
    Case(
        "figure",
        ("What does the ferry to Calder cost?", "The ferry to Calder costs nine coins."),
        ("What is the price of the ferry to Calder?", "The price is 7 coins."),
    ),
    Case(
        "figure",
        ("What does the adult ticket of the Harrow museum cost?", "The adult ticket costs 5 euros."),
        ("What does the adult ticket of the Harrow museum cost?", "6 euros"),
    ),
    Case(
        "figure",
        ("How fast is the Calder train?", "The Calder train runs at 120 km/h."),
        ("How fast is the Calder train?", "The Calder train runs at 160 km per hour."),
    ),
    Case(
        "figure",
        ("What is the rent in Harrow?", "The rent in Harrow is 500 euros a month."),
        ("What is the rent in Harrow?", "The rent in Harrow is 650 euros per month."),
    ),
    Case(
        "figure",
        ("Wie hoch war der Umsatz von Acme 2023?", "Der Umsatz von Acme betrug 2023 412,5 Millionen Euro."),
        ("Wie hoch war der Umsatz von Acme 2023?", "Der Umsatz von Acme betrug 2023 421,5 Mio Euro."),
    ),
    Case(
        "figure",
        ("how much memory does the harrow server have?", "the harrow server has 64 GB memory"),
        ("how much memory does the harrow server have?", "the harrow server has 128 GB memory"),
    ),
    Case(
        "figure",
        ("What did Acme earn?", "Acme earned 5 million euros and Bolt earned 7 million euros."),
        ("What did Bolt earn?", "Bolt earned 9 million euros."),
    ),
    Case(
        "date",
        ("When was Acme founded?", "Acme was founded in 1990 [1]."),
        ("In which year was Acme founded?", "Acme was founded in 1992 [1]."),
    ),
    Case("date", ("When was Acme founded?", "In 1990."), ("When was Acme founded?", "3 May 1991.")),
    Case(
        "date",
        ("When was Acme founded?", "Acme was established on May 3, 1990."),
        ("When was Acme founded?", "Acme was founded on 4 May 1990."),
    ),
    Case(
        "date",
        ("When does the Harrow permit expire?", "The Harrow permit expires on 2026-01-31."),
        ("When does the Harrow permit expire?", "It expires on 31 March 2026."),
    ),
    Case(
        "date",
        ("Who was Ada Lovelace?", "Ada Lovelace was born in 1815."),
        ("When was Ada Lovelace born?", "Ada Lovelace was born in 1816."),
    ),
    Case(
        "yes_no",
        ("Is the ferry to Calder free?", "Yes, it is [1]."),
        ("Is the ferry to Calder free?", "No [1]."),
    ),
    Case(
        "yes_no",
        ("Is the ferry to Calder free?", "Yes."),
        ("What about the ferry to Calder?", "The ferry to Calder is not free."),
    ),
    Case(
        "yes_no",
        ("Is Acme listed in Harrow?", "Acme is listed in Harrow."),
        ("Is Acme listed in Harrow?", "Acme isn't listed in Harrow."),
    ),
    Case(
        "yes_no",
        ("Does Python support tail calls?", "Python does not support tail calls."),
        ("Does Python support tail calls?", "Python supports tail calls."),
    ),
    Case(
        "yes_no",
        ("Did Acme make a profit in 2023?", "Yes, it did."),
        ("Did Acme make a profit in 2023?", "No, there was none."),
    ),
)

AGREEING = (
    # the same, said differently
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's revenue in 2023 was €412,500,000.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's revenue in 2023 was 413 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's revenue in 2023 was about 400 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Revenue was more than 400 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Revenue was 0.4 billion euros.")),
    Case(None, (_REVENUE, "412.5 million euros"), (_REVENUE, "412,5 Millionen Euro")),
    Case(
        None,
        ("How long is the Calder bridge?", "The Calder bridge is 1.2 km long."),
        ("How long is the Calder bridge?", "The Calder bridge is 1,200 metres long."),
    ),
    Case(
        None,
        ("How many ships does Harrow own?", "Harrow owns twelve ships."),
        ("How many ships does Harrow own?", "Harrow owns 12 ships."),
    ),
    Case(
        None,
        ("How long does the Harrow permit last?", "The Harrow permit lasts 2 years."),
        ("How long does the Harrow permit last?", "The Harrow permit lasts 24 months."),
    ),
    Case(
        None,
        ("When was Acme founded?", "Acme was founded in May 1990."),
        ("When was Acme founded?", "Acme was founded on 3 May 1990."),
    ),
    Case(None, ("Is the ferry to Calder free?", "Yes."), ("Is the ferry to Calder free?", "Yes, it is free.")),
    # another period
    Case(None, (_REVENUE, _SAID), ("What was Acme's revenue in 2024?", "It was 500 million euros.")),
    Case(
        None,
        ("What was Acme's revenue in Q2 2024?", "10 million dollars"),
        ("What was Acme's revenue in Q3 2024?", "12 million dollars"),
    ),
    Case(
        None,
        ("What was Acme's revenue in Q2 2024?", "10 million dollars"),
        ("What was Acme's revenue in 2024?", "42 million dollars"),
    ),
    Case(
        None,
        ("Did Acme make a profit in 2023?", "Yes, it did."),
        ("Did Acme make a profit in 2024?", "No, it did not."),
    ),
    # another thing
    Case(None, (_REVENUE, _SAID), ("What was Bolt's revenue in 2023?", "Bolt's revenue in 2023 was 7 million euros.")),
    Case(None, (_REVENUE, "412.5 million euros."), ("What was Bolt's revenue in 2023?", "7 million euros.")),
    Case(None, (_REVENUE, _SAID), ("What was Acme's profit in 2023?", "Acme's profit in 2023 was 40 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's cloud revenue in 2023 was 90 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's revenue in 2023 was 450 million dollars.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's revenue in 2023 rose by 5 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Acme's revenue in 2023 was 5 million euros more than Bolt's.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Revenue could reach 500 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Revenue was not 500 million euros.")),
    Case(None, (_REVENUE, _SAID), (_REVENUE, "Revenue grew from 300 to 500 million euros.")),
    Case(
        None,
        ("What was Acme's net profit?", "Acme's net profit was 5 million euros."),
        ("What was Acme's gross profit?", "Acme's gross profit was 9 million euros."),
    ),
    Case(
        None,
        ("What does the adult ticket of the Harrow museum cost?", "5 euros"),
        ("What does the child ticket of the Harrow museum cost?", "3 euros"),
    ),
    Case(
        None,
        ("What does the ferry to Calder cost?", "The ferry to Calder costs 9 coins."),
        ("What does the ferry to Calder cost?", "For children, the ferry to Calder costs 4 coins."),
    ),
    Case(
        None,
        ("What was Acme's profit before tax?", "Profit before tax was 5 million euros."),
        ("What was Acme's profit after tax?", "Profit after tax was 4 million euros."),
    ),
    Case(
        None,
        ("How many employees does Acme have?", "Acme has 500 employees."),
        ("How many offices does Acme have?", "Acme has 12 offices."),
    ),
    Case(
        None,
        ("How many employees does Acme have?", "500"),
        ("How many offices does Acme have?", "12"),
    ),
    Case(
        None,
        ("How many employees does Acme have in France?", "500"),
        ("How many employees does Acme have in Spain?", "120"),
    ),
    Case(
        None,
        ("What is the largest prime factor of 91?", "The largest prime factor is 13."),
        ("What is the largest prime factor of 85?", "The largest prime factor is 17."),
    ),
    Case(None, ("What is 17 + 25?", "42"), ("What is 17 + 26?", "43")),
    Case(
        None,
        ("What does the 5-year loan of Acme cost?", "The 5-year loan of Acme costs 4 percent."),
        ("What does the 12-year loan of Acme cost?", "The 12-year loan of Acme costs 5 percent."),
    ),
    Case(
        None,
        ("How long is the Calder bridge?", "The Calder bridge is 1.2 km long."),
        ("How high is the Calder bridge?", "The Calder bridge is 80 m high."),
    ),
    Case(
        None,
        ("How do I sort a list?", "Use `rows[7]` or 5 lines of code."),
        ("How do I sort a list?", "```\nsort 9 lines\n```"),
    ),
    Case(
        None,
        ("When was Acme founded?", "Acme was founded in 1990."),
        ("When was Bolt founded?", "Bolt was founded in 1992."),
    ),
    Case(
        None,
        ("When was Acme founded?", "Acme was founded in 1990."),
        ("When was Acme sold?", "Acme was sold in 2001."),
    ),
    Case(
        None,
        ("When was Acme founded?", "Acme was founded before 1995."),
        ("When was Acme founded?", "Acme was founded in 1990."),
    ),
    Case(
        None,
        ("When did Acme open an office?", "Acme opened an office in 1990."),
        ("When did Acme open an office?", "Acme opened an office in 2001."),
    ),
    Case(
        None,
        ("When is the deadline?", "The deadline is 03/05/2024."),
        ("When is the deadline?", "The deadline is 05/03/2024."),
    ),
    Case(None, ("Is the ferry to Calder free?", "Yes."), ("Is the ferry to Harrow free?", "No.")),
    Case(
        None,
        ("Is the ferry to Calder free?", "Yes, but only on Sundays."),
        ("Is the ferry to Calder free?", "No."),
    ),
    Case(None, ("Is the fee not refundable?", "Yes."), ("Is the fee not refundable?", "No.")),
    Case(
        None,
        ("Is Acme always listed in Harrow?", "Acme is not always listed in Harrow."),
        ("Is Acme listed in Harrow?", "Acme is listed in Harrow."),
    ),
    Case(
        None,
        ("Did Acme sue Bolt?", "Acme sued Bolt."),
        ("Did Bolt sue Acme?", "Bolt did not sue Acme."),
    ),
    Case(None, ("What is interest?", "The passages do not say."), ("What is interest?", "Interest is paid in June.")),
    Case(None, ("What is new?", "1. The rent is 5 euros."), ("What else?", "2. The rent is due in March.")),
)
