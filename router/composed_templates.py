"""Hand-written sentences for composed questions: joints, introductions, and questions that look like two and are one.

`[x|y]` stands for one of several words, drawn anew each time. In CHAINS `||` parts one sub-query from the next and what
stands in `{}` belongs to neither; a sub-query that begins with `#1 ` needs the answer of the first.
"""

ASIDES = (
    "after that",
    "by the way",
    "while you are at it",
    "at the same time",
    "in the same vein",
    "apart from this",
    "if you can",
    "if possible",
    "when you have time",
    "just curious",
    "before I forget",
    "last but not least",
    "similarly",
    "likewise",
    "for my second question",
    "to change the subject",
    "speaking of something else",
    "as another matter",
    "as a follow-up",
    "in the meantime",
    "meanwhile",
    "secondly",
    "thirdly",
    "in second place",
    "afterwards",
    "subsequently",
    "equally",
    "again",
    "once that is done",
    "when that is settled",
    "beyond this",
    "along with this",
    "together with that",
    "another question",
    "second question",
    "a further point",
    "something else",
    "quick follow-up",
    "my other question",
    "I also wonder",
    "I forgot",
    "oh",
    "well",
    "now",
    "okay",
    "so",
    "right",
    "say",
    "hm",
)
"""What people say between two questions beside 'and' and 'also', which belongs to neither; for training."""
FILLERS = (
    "on over under with about for of the a that this my your other side way point part hand note time day thing word "
    "matter line top more further extra still too even only just quite once first last same new next-door kindly really"
)
"""Words that random asides are made of, so that a head learns the place of an aside and not a list of them."""

HALF_JOINTS: dict[str, tuple[str, ...]] = {
    "train": (
        *(" and ", ", and ", " and also ", ", and also ", "; also ", ", also ", " also ", ", as well as ", ", plus "),
        *(" plus ", ", then ", " and then ", "; ", ", ", ", but ", " & ", "; and ", " - and ", " then "),
        *(" but ", " -- ", " | ", "... ", "; then ", " and, ", ", and then "),
    ),
    "held_out": (
        *(" as well as ", ", and in addition ", ", besides that ", " / ", " additionally ", ", followed by "),
        *(" – also ", ", and one more thing: ", ", next ", ", on top of that ", ", and on a different note, "),
        *(" + ", " ... and ", ", and finally "),
    ),
}
"""Between two clauses of one sentence; training draws asides too."""

HALF_OPENERS: dict[str, tuple[str, ...]] = {
    "train": (
        "And ",
        "Also, ",
        "Also ",
        "Then ",
        "And also ",
        "By the way, ",
        "Next, ",
        "Secondly, ",
        "Another thing: ",
        "Second question: ",
        "Plus, ",
        "Oh, and ",
        "After that, ",
        "Finally, ",
        "And then ",
        "Okay, and ",
        "Now ",
        "Another question: ",
        "But ",
        "So ",
        "Or ",
        "Again, ",
    ),
    "held_out": (
        "Additionally, ",
        "Moreover, ",
        "In addition, ",
        "One more thing: ",
        "On another note, ",
        "Separately, ",
        "Lastly, ",
        "PS: ",
        "Besides, ",
        "Furthermore, ",
        "While I have you, ",
        "Unrelated: ",
    ),
}
"""Between two sentences."""

HALF_BULLETS: dict[str, tuple[str, ...]] = {
    "train": (
        *("- ", "{n}. ", "* ", "{n}) ", "{n}: ", "{n} - ", "#{n} ", "Question {n}: ", "No. {n}: ", "[{n}] ", "({i}) "),
        *("{a}. ", "({A}) ", "{A}) ", "{i}. ", "> ", "-- ", "+ ", "{n}.", "-", "* [ ] ", "Step {n}. ", "> {n}) "),
    ),
    "held_out": ("• ", "({n}) ", "{a}) ", "Q{n}: ", "– "),
}
"""In front of each line of a list; {n} is its number, {a} and {A} its letter, {i} its Roman number."""

HALF_INTRODUCTIONS: dict[str, tuple[str, ...]] = {
    "train": (
        "Please answer the following questions:",
        "I have {k} questions:",
        "Questions:",
        "Can you help me with these?",
        "Answer these:",
        "Hello, I need to know the following.",
        "Please help me with the following:",
        "To do:",
        "Tell me:",
        "Could you look these up?",
        "What I would like to find out today:",
        "We have {k} things to clear up.",
        "My questions are as follows.",
        "Open points -",
        "[Here are|These are|Below are] [my|some|the] [questions|points|items|requests][:|.|]",
        "I [need|want|would like] [some help|a few answers|advice][.|:| with these:| on the following:]",
        "[Please|Kindly] [check|look at|sort out|find out] [these|all of this|the points below][:|.]",
        "[Two|Three|Four|A couple of] [things|requests|questions] [for today|about different matters|][:|.]",
        "[Agenda|Tasks|Notes|FAQ|Homework|Wish list][:| -|]",
    ),
    "held_out": ("Here is what I need to know:", "Some quick ones:", "My list for today:", "Several things to check:"),
}
"""In front of several questions."""

HALF_GREETINGS: dict[str, tuple[str, ...]] = {
    "train": (
        *("Hi! ", "Hello, ", "Hey, can you help me? ", "Hi there. ", "Good morning! ", "Quick question: "),
        *("Hey ", "Hello there! ", "Dear team, ", "Excuse me, ", "Good afternoon, ", "Help! ", "Sorry to bother you. "),
        *("Can I ask you something? ", "I have two questions: ", "OK so ", "Hi bot, ", "Hello! ", "Hey there, "),
        "I [need|want|would like] [help|advice|an answer|your opinion][. |: |, ]",
        "[Maybe|Perhaps] you can [help me|tell me this|answer this]. ",
        "[My|Our|The] [question|first question|request|problem][ today|] is this: ",
        "[Thanks for being here|Nice to meet you|How are you|I hope you are well][. |! |? ]",
        "[I am stuck|I do not know what to do|It is urgent|Just a moment|One moment][. |: |! ]",
    ),
    "held_out": ("Good evening. ", "Dear assistant, ", "Greetings! ", "I could use some help. "),
}
HALF_CLOSINGS: dict[str, tuple[str, ...]] = {
    "train": (
        *(
            " Thanks!",
            " Thank you.",
            " Thanks in advance.",
            " Thank you so much!",
            " Thx",
            " Bye!",
            " Best regards, Ana",
        ),
        *(" That is all.", " Have a nice day!", " Please let me know.", " Looking forward to your answer.", " :)"),
    ),
    "held_out": (" Cheers!", " Much appreciated.", " Many thanks!"),
}
HALF_INSTRUCTIONS: dict[str, tuple[str, ...]] = {
    "train": (
        *(" Answer briefly.", " Be concise.", " Explain step by step.", " Please show your work.", " Use one line."),
        " [Answer|Reply|Respond] in [one word|two sentences|French|detail|a table|bullet points].",
        " [Please|Kindly|] [cite|name|list] [your sources|an example|the formula].",
        " [Do not|Don't] [guess|explain|use jargon|repeat the question].",
        " [Round|Give it] to [two|three] [decimals|digits].",
        " [Use|Write] [simple|short|formal] [words|sentences].",
        " I [prefer|want|need] [a short answer|numbers|a source|just the result].",
    ),
    "held_out": (" Keep it short.", " Give reasons.", " Think carefully before you answer.", " Reply in plain words."),
}
"""After a question, of which they are a part."""

HALF_CONTEXTS: dict[str, tuple[str, ...]] = {
    "train": (
        "I [run|own|manage|bought|sold|visited|closed] [a|the|our|my] [bakery|shop|hotel|farm|car|bank|school|garden].",
        "I am [a student|a nurse|writing a report|planning a party|at work|forty|from Chile|busy|in a hurry|lost].",
        "My [sister|boss|cat|phone|router|roof|doctor] [has a problem|is ill|broke|called me|wants a raise|is late].",
        "It is [raining|late|winter|the end of the year|my first week|a long story|quite urgent|my turn].",
        "[We|They|The neighbours] [built|rented|lost|found|painted] [it|a house|two rooms] [in "
        "2019|yesterday|last May].",
        "My code fails with [a timeout|a KeyError|exit code 2] [on Windows|in production|since Monday|].",
        "The [meeting|deadline|exam|flight] is [tomorrow|on Friday|next week|at noon|cancelled].",
        "[Yesterday|Last year|On Monday|In June], [I|he|we] [fell|moved|signed a contract|ate oysters|changed jobs].",
        "I have [two children|a budget of 500 euros|a fever|only ten minutes|no idea about this|an old laptop].",
        "This is [for a friend|about my taxes|a school project|not urgent|a test|for work].",
    ),
    "held_out": (
        "We moved to [Oslo|a new house|the coast] last [week|month].",
        "There is [a leak in the roof|a strange noise in the engine].",
        "I just got [a new car|my first job|a letter from the bank|a puppy].",
        "Our [landlord|teacher] is [very strict|on holiday|new here].",
    ),
}
"""Statements that say what the question after them is about; one question all the same."""

WHOLES = (
    "What is the difference between [a list|a stock|a virus|an alloy] and [a tuple|a bond|a bacterium|a metal], "
    "and when "
    "should I use each?",
    "Compare [Paris|Python|steel|the euro] and [Rome|Java|wood|the dollar].",
    "What was the [revenue|profit|turnover] and [headcount|debt|net income] of [Acme|Globex|Initech] in "
    "[2021|Q3 2024]?",
    "How do I [open|read|load] a [file|table|document] and [write|save|send] it to [disk|a database|my manager]?",
    "Write a [function|script|program] that [sorts|filters|reads] a list and [prints|returns|stores] the result.",
    "Who decides what is [bought|built] and what is [sold|torn down]?",
    "What happens when the [queue|disk|tank] is full, and when the [cache|memory|pump] is?",
    "Should I [buy|rent|lease] or [sell|build|wait]?",
    "Which [companies|cities|plants], if any, [grow|expand] in [winter|spring] and [shrink|die] in [summer|autumn]?",
    "Is it [legal|safe|wise] to [drive|swim|invest] when it [rains|snows] and nobody [is watching|knows]?",
    "If I [save|invest] 100 a month and the rate is [3|5] percent, how much do I have after [ten|twenty] years?",
    "Give me a list of [cheap|quiet|old] [hotels|restaurants|museums] in [Rome|Lyon|Kyoto], [Madrid|Oslo] and "
    "[Bern|Riga].",
    "What are the causes, the symptoms and the treatment of [asthma|gout|malaria]?",
    "Explain how [a vaccine|a transistor|a mortgage] works, and why.",
    "Why do [cats|birds|bees] [sleep|sing|dance] when they are [tired|alone|happy] and not when they are "
    "[hungry|scared]?",
    "Where can I [buy|find] a [chair|lamp|bike] that is [cheap|light], [strong|new] and [red|blue]?",
    "What is the name of the [firm|band|club] which was founded in [1990|2004], and which has [200|four] "
    "[members|owners]?",
    "In which [room|town] and on which [day|date] does the [team|board|choir] meet?",
    "What is the sum of [12|40] and [9|7], divided by [3|2] and rounded to the nearest whole number?",
    "Tell me about [Acme|Marie Curie|the Alps] and [its|their] [history|founder|importance].",
    "How [tall|old|heavy] is [the tower|the bridge|an elephant] compared with [the church|the road|a whale], "
    "and by how much?",
    "Summarize what happened before the [war|crash|election], during it and after it.",
    "Do I need [a visa|a permit|insurance] and [a passport|vaccines|a deposit] to [enter|work in|drive in] "
    "[Peru|Japan]?",
    "When it [rains|snows] and the wind [is cold|turns], do [people|animals] stay inside and wait?",
    "Write a [poem|song|story] about who we are, what we [do|love], and where we [go|live].",
    "How do I do the following?\n- [open|close] a [file|socket]\n- [read|count] the [lines|bytes]\n- "
    "[send|save] the result",
    "What do these mean:\n- [list|int|bonds]\n- [dict|float|shares]",
    "Compare these:\n- [apples|loans]\n- [pears|leases]\n- [plums|grants]",
    "What does this print?\n```python\nx = [1|2]\n# what is x? and what is y?\nprint(x[ + 1|])\n```",
    "What is wrong with `[a, and what is b|SELECT a; SELECT b|if x: y]` in [Python|SQL|this line]?",
    "I have a [list|dict|table] with names, dates and prices. How do I sort it by date, then by price?",
    "Which of these is true? [Iron rusts|Cats fly], [water boils|ice sinks], or [gold floats|lead melts]?",
    "Can you [book|find] a [table|room] for [two|four] on [Friday|Monday], and make sure it is [quiet|near the "
    "window]?",
    "Set an alarm for [six|seven] and repeat it every [day|weekday].",
    "Remind me to [call mom|buy milk] and [pay rent|water the plants].",
    "Find the mean, the median and the mode of 3, [4|5], 7 and [9|11].",
    "State the theorem of [Pythagoras|Euler|Bayes] and the conditions under which it holds.",
    "What is the capital of the country that borders [Spain|Peru] and whose flag has [three|two] colours?",
)
"""One question each, however many clauses it has."""

_TEXT = "[this|this text|the following|the following sentences|my message|the text below|this email|these questions]"
HALF_QUOTING: dict[str, tuple[str, ...]] = {
    "train": (
        f"[Translate|Please translate|Can you translate] {_TEXT} [into|to] [French|German|Thai][: |:\n|. "
        f"|\n\n|, |: ']{{}}",
        f"[Summarize|Shorten|Proofread|Simplify|Correct|Improve|Classify|Polish] {_TEXT}[: |:\n|. |\n\n| - |: ]{{}}",
        f"[Check the grammar of|Count the words in|Analyse the tone of|Write a reply to] {_TEXT}[: |:\n|\n\n|. ]{{}}",
        '[Translate|Summarize|Spell|Repeat|Proofread|Explain the joke in] "{}"[.| for me.| in Spanish.| in one line.|]',
        '[What language|Which style|What dialect] is "{}" [written in|in]?',
        'How would a [teacher|judge|child] [grade|answer|read] [this|the following]? "{}"',
        "[Is|Are] the following [about|from] [sports|an exam|a form] or [money|a joke]?[\n\n|\n| ]{}",
        'I got this [mail|letter|note][:|, what does it mean?] "{}"',
        f"[Make|Turn] {_TEXT} [formal|into a list|into a poem|shorter][: |:\n|. |\n\n]{{}}",
        "Here is a transcript[:\n|. |:\n\n]{}\n[Summarize it.|Who speaks?|What is it about?]",
    ),
    "held_out": (
        "Rewrite this politely: {}",
        "Paraphrase these questions for a survey: {}",
        "Put the following into the past tense. {}",
        "What is the mood of “{}”?",
    ),
}
"""Requests about a text, which stays with them even where it asks."""

CHAINS = (
    "What was the [revenue|net income|debt] of [Acme|Globex] in [Q1 2024|2023]{, and }||what was its "
    "[headcount|margin]?",
    "Who [leads|manages|founded] the [Nova|Delta] team{, and }||#1 where does [he|she|that person] live?",
    "Which function [loads|parses|removes] the [rows|events]{, and }||#1 which module holds that function?",
    "Who wrote [Emma|Dune|Hamlet]{? }||#1 When was the author born?",
    "Which company makes the [Velo|Orca] engine{ and }||#1 what was that company's revenue in [2022|Q2 2024]?",
    "Where does [Ana Voss|Jon Pike] live{ and }||when does [she|he] train?",
    "How tall is the [Orl|Calder] tower{? And }||who built it?",
    "What is the [boiling|melting] point of [iron|water|lead]{, and }||what is it used for?",
    "What is the capital of [Peru|Kenya|Norway]{? }||#1 How many people live there?",
    "When was [Acme|Initech] founded{, }||who runs it{, and }||where is it based?",
    "Compute [12 * 9|40 / 5|7 + 88]{, then }||#1 tell me whether the result is [even|prime|larger than 50].",
    "Which [plant|animal] is on the flag of [Lebanon|Dominica]{ and }||#1 where does it grow?",
    "Tell me the [job|address|age] of [Mira Kell|Tom Reed]{ and }||the [height|length|location] of the [tower|bridge].",
    "Give me the [revenue|debt] of [Acme|Globex] in [2021|2022]{ and }||the [population|area] of [Norway|Chile].",
    "For [Acme|Globex], what was the [revenue|profit] in [2021|Q1 2025]{ and }||what was the [headcount|debt]?",
    "Regarding [my trip to Rome|the new house|chapter two], what should I [pack|fix|read] first{? }||How long "
    "will it take?",
    "What is [recursion|inflation|a tuple]{, }||who [invented|coined|first described] it{, and }||what is it good for?",
    "Is the [museum|library|pool] open on [Monday|Sunday]{, and }||does it close early?",
    "Find the opening time of the [museum|bakery]{, then }||tell me who works there.",
    "Which [lake|sea] does the [Rhine|Don|Ural] flow into{? }||#1 And how deep is that [lake|sea]?",
    "I need the [address|number] of [Ana Voss|the clinic]{ and }||I also need the [price|length] of the [tour|book].",
    "I would like to know [what time it is|how old Rome is]{ and }||how [far the moon is|many people speak Dutch].",
    "Tell me who leads the [Orbit|Delta] team{, }||how long the [Aven|Rhine] is{, and }||what [load_rows|print] "
    "returns.",
    "[Hi|Hello]! {}||What is the vat on [bread|books]{? }||Which form do I file?",
    "How [old|tall|rich] is [Ana Voss|the mayor]{ and }||[what|which languages] does [she|he] [do|speak]?",
    "What [colour|shape] is the [flag|coin] of [Chile|Japan]{? }||[How old is it|Who made it]?",
    "When did the [war|strike|show] [begin|end]{, and }||who won it?",
    "[About|For|On] [my order|the Rhine|Python 3], [what is the status|how long is it|what is new]{? And }||who "
    "[asked for it|knows it]?",
    "Where is the [station|clinic|vault]{ and }||when is it open?",
    "Name the [author|director] of [Emma|Alien]{, and }||#1 tell me when [she|he] was born.",
    "How do [bees|bats] [sleep|navigate]{, and }||what do they eat?",
    "What does [a broker|an enzyme|a router] do{ and }||how much does it [cost|weigh]?",
    "Which team won the [cup|league] in [1998|2006]{? }||#1 Who was its captain?",
    "Who [painted|stole] [Guernica|the Mona Lisa]{, }||when did [he|she] live{, and }||where is it now?",
    "[Explain|Define] [osmosis|a bond|a monad]{, then }||[give an example|list its uses].",
    "Is [gold|tin] [rarer|softer] than [iron|zinc]{ and }||what does it cost?",
    "What is the [population|area] of [Peru|Kenya]{ and }||the [height|age] of [Mount Orl|the Calder tower]?",
    "Which [river|road] crosses [Bonn|Lyon]{, }||#1 how long is it{ and }||#1 where does it [end|begin]?",
    "Give me the formula for [density|speed]{ and }||[what its unit is|tell me the unit].",
    "[Can you tell me|Do you know] [who runs the shop|when Lent begins]{ and }||whether [it rains|the bank is "
    "open] today?",
    "[So|Well], {}||what is the [fee|fine] for [parking|late payment]{ and }||how do I pay it?",
)
"""Questions of several parts that speak of one thing or of each other's answers."""
