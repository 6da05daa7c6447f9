"""How the computations over quarterly reports are asked for."""

from collections.abc import Mapping

from experts.pocket.alternatives import split_alternatives
from experts.pocket.records import Phrasings

PHRASINGS: Mapping[str, Phrasings] = {
    "growth": Phrasings(
        split_alternatives(
            "the growth in {metric} of {company} from {first} to {last}|the percentage growth of {company}'s {metric} "
            "from {first} to {last}|the growth rate of {metric} at {company} between {first} and {last}|the percentage "
            "change in {company}'s {metric} from {first} to {last}|by how many percent the {metric} of {company} grew "
            "from {first} to {last}"
        ),
        split_alternatives(
            "By how many percent did the {metric} of {company} grow from {first} to {last}?|By what percentage did "
            "{company}'s {metric} change between {first} and {last}?|How much did the {metric} of {company} grow from "
            "{first} to {last}?|How fast did {company}'s {metric} grow from {first} to {last}?|From {first} to {last}, "
            "by how many percent did the {metric} of {company} change?|What was the growth of {company}'s {metric} "
            "from {first} to {last}?|In percent, how did the {metric} of {company} change from {first} to {last}?"
        ),
        [
            "the growth of {company}'s {metric} between {first} and {last}",
            "the {metric} growth from {first} to {last} at {company}",
        ],
        [
            "How many percent did {company}'s {metric} grow from {first} to {last}?",
            "Between {first} and {last}, what was the growth in {metric} at {company}?",
            "What growth rate did the {metric} of {company} have from {first} to {last}?",
        ],
    ),
    "difference": Phrasings(
        split_alternatives(
            "the difference in {metric} of {company} between {first} and {last}|the change in amount of {company}'s "
            "{metric} from {first} to {last}|the difference between {company}'s {metric} in {last} and in {first}|the "
            "absolute change in {metric} at {company} from {first} to {last}"
        ),
        split_alternatives(
            "What is the difference in {metric} of {company} between {first} and {last}?|By what amount did the "
            "{metric} of {company} change from {first} to {last}?|By what amount did {company}'s {metric} rise from "
            "{first} to {last}?|How much higher was the {metric} of {company} in {last} than in {first}?|How far apart "
            "are the {metric} of {company} in {first} and in {last}?|How much more {metric} did {company} report in "
            "{last} than in {first}?"
        ),
        ["the difference of {company}'s {metric} in {first} and {last}"],
        [
            "By what amount did the {metric} at {company} differ between {first} and {last}?",
            "How much larger was {company}'s {metric} in {last} than in {first}?",
        ],
    ),
    "rivals": Phrasings(
        split_alternatives(
            "the difference in {metric} between {company} and {rival} in {last}|how much more {metric} {company} had "
            "than {rival} in {last}|the gap in {metric} between {company} and {rival} in {last}"
        ),
        split_alternatives(
            "How much higher was the {metric} of {company} than that of {rival} in {last}?|By what amount did the "
            "{metric} of {company} exceed that of {rival} in {last}?|In {last}, how much more {metric} did {company} "
            "report than {rival}?|What is the difference between the {metric} of {company} and of {rival} in {last}?"
        ),
        ["the difference between {company}'s and {rival}'s {metric} in {last}"],
        [
            "How much larger was {company}'s {metric} than {rival}'s in {last}?",
            "In {last}, by what amount did {company} exceed {rival} in {metric}?",
        ],
    ),
    "total": Phrasings(
        split_alternatives(
            "the total {metric} of {company} in {first} and {last}|the sum of {company}'s {metric} in {first} and "
            "{last}|the {metric} of {company} in {first} and {last} together|the combined {metric} of {company} for "
            "{first} and {last}"
        ),
        split_alternatives(
            "What was the total {metric} of {company} in {first} and {last}?|How much {metric} did {company} report in "
            "{first} and {last} together?|What is the sum of {company}'s {metric} in {first} and {last}?|In {first} "
            "and {last} together, how much {metric} did {company} have?|What do {first} and {last} add up to in "
            "{metric} of {company}?"
        ),
        ["{company}'s total {metric} for {first} and {last}"],
        [
            "How much was the {metric} of {company} in {first} and {last} combined?",
            "What total {metric} did {company} report for {first} and {last}?",
        ],
    ),
    "margin": Phrasings(
        split_alternatives(
            "the {metric} of {company} as a percentage of revenue in {last}|{company}'s {metric} as a share of revenue "
            "in {last}|the ratio of {metric} to revenue of {company} in {last}|the share of {metric} in the revenue of "
            "{company} in {last}|{company}'s {metric} in percent of revenue for {last}"
        ),
        split_alternatives(
            "What percentage of revenue was the {metric} of {company} in {last}?|What share of its revenue was "
            "{company}'s {metric} in {last}?|In {last}, what percentage of revenue was the {metric} of {company}?|How "
            "much of the revenue of {company} was {metric} in {last}, in percent?|How many percent of {company}'s "
            "revenue was {metric} in {last}?|What part of the revenue of {company} was {metric} in {last}, in percent?"
        ),
        ["the percentage of revenue that {company}'s {metric} made up in {last}"],
        [
            "What share of revenue did the {metric} of {company} make up in {last}?",
            "As a percentage of revenue, how high was {company}'s {metric} in {last}?",
        ],
    ),
    "linear forecast": Phrasings(
        split_alternatives(
            "the linear forecast of {company}'s {metric} for {next}|a linear forecast of the {metric} of {company} in "
            "{next}|the {metric} of {company} in {next} by linear forecast|the {metric} of {company} in {next} if the "
            "trend goes on|the expected {metric} of {company} in {next} on the linear trend"
        ),
        split_alternatives(
            "What is the linear forecast of {company}'s {metric} for {next}?|What {metric} would {company} have in "
            "{next} if it changes as in the quarter before?|On a linear trend, what is the {metric} of {company} in "
            "{next}?|Which {metric} does a linear forecast give {company} for {next}?|If the trend of the last two "
            "quarters goes on, what is the {metric} of {company} in {next}?|Forecast the {metric} of {company} for "
            "{next} on the linear trend."
        ),
        ["the {metric} that a linear forecast gives for {company} in {next}"],
        [
            "What does the linear trend predict as {metric} of {company} for {next}?",
            "With a linear forecast, how high is {company}'s {metric} in {next}?",
        ],
    ),
    "seasonal forecast": Phrasings(
        split_alternatives(
            "the seasonal forecast of {company}'s {metric} for {next}|a seasonal forecast of the {metric} of {company} "
            "in {next}|the {metric} of {company} in {next} by seasonal forecast|the expected {metric} of {company} in "
            "{next} on last year's season"
        ),
        split_alternatives(
            "What is the seasonal forecast of {company}'s {metric} for {next}?|What {metric} would {company} have in "
            "{next} if the season repeats?|On last year's season, what is the {metric} of {company} in {next}?|Which "
            "{metric} does a seasonal forecast give {company} for {next}?|Forecast the {metric} of {company} for "
            "{next} with its season."
        ),
        ["the {metric} that a seasonal forecast gives for {company} in {next}"],
        [
            "What does the season predict as {metric} of {company} for {next}?",
            "With a seasonal forecast, how high is {company}'s {metric} in {next}?",
        ],
    ),
}
