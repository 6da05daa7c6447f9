"""Reasoning: people, places and schedules; who works, lives, trains and meets where and when."""

import random

from experts.pocket.alternatives import split_alternatives
from experts.pocket.names import draw_names
from experts.pocket.records import Fact, Phrasings, Record

JOBS = split_alternatives(
    "archivist|baker|carpenter|surveyor|nurse|librarian|welder|gardener|chemist|editor|pilot|tailor|engineer|teacher|"
    "translator|optician|painter|accountant|glazier|miller|printer|cook|clerk|porter"
)
PLACES = split_alternatives(
    "Library|Museum|Bakery|Clinic|Workshop|Theatre|Market|Archive|Pool|Station|Garden|School|Studio|Harbour|Mill|Hall"
)
SPORTS = split_alternatives(
    "rowing|fencing|judo|tennis|climbing|swimming|boxing|archery|cycling|running|chess|handball"
)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
STREETS = ["Street", "Lane", "Road", "Square", "Alley", "Quay"]

_SPECS: dict[str, tuple[str, str, str, str]] = {
    "employer": (
        "the workplace of {person}|the place where {person} works|where {person} works|the employer of {person}"
        "|{person}'s workplace",
        "Where does {person} work?|At which place does {person} work?|Who employs {person}?|Where is {person} employed?"
        "|Which place does {person} work at?|Where does {person} have a job?|In which place is {person} working?",
        "the place {person} works at|{person}'s employer",
        "At what place does {person} work?|For whom does {person} work?|Where can I find {person} at work?",
    ),
    "job": (
        "the job of {person}|the profession of {person}|what {person} does for a living|{person}'s job|the occupation"
        " of {person}",
        "What is {person}'s job?|What does {person} work as?|What job does {person} have?"
        "|Which profession does {person}"
        " have?|What does {person} do for a living?|As what does {person} work?",
        "{person}'s profession|the job that {person} has",
        "What is {person} by profession?|Which job does {person} have?|What work does {person} do?",
    ),
    "worker": (
        "who works at {place}|the name of the person who works at {place}|the person working at {place}|the {job} of"
        " {place}",
        "Who works at {place}?|Who is employed at {place}?|Which person works at {place}?"
        "|Who works as {job} at {place}?"
        "|Who has a job at {place}?|Who is the {job} at {place}?",
        "who is employed at {place}|the {job} at {place}",
        "Which person is employed at {place}?|Who is working at {place}?|Who does {place} employ?",
    ),
    "home": (
        "the town where {person} lives|the home town of {person}|where {person} lives|{person}'s home town|the town of"
        " {person}",
        "Where does {person} live?|In which town does {person} live?|Which town does {person} live in?|What town is"
        " {person} living in?|Where is the home of {person}?|In what town is {person} at home?",
        "the town {person} lives in|{person}'s town",
        "In what town does {person} live?|Which town is home to {person}?|Where is {person} living?",
    ),
    "address": (
        "the address of {person}|{person}'s address|the street address of {person}|the street where {person} lives",
        "What is the address of {person}?|At what address does {person} live?|In which street does {person} live?"
        "|What is {person}'s street?|At which address can I visit {person}?|Which address does {person} have?",
        "{person}'s street address|the address where {person} lives",
        "At which address does {person} live?|Which street does {person} live in?|What address does {person} have?",
    ),
    "training": (
        "the training time of {person}|when {person} trains|the time when {person} trains|{person}'s training time|the"
        " time of {person}'s {sport}",
        "When does {person} train?|At what time does {person} train?|On which day and at what time does {person} train?"
        "|When does {person} train {sport}?|When is the training of {person}?|What time is {person}'s training?",
        "the day and time {person} trains|the time of {person}'s training",
        "At which time does {person} train {sport}?|When is {person} training?|When does {person} have training?",
    ),
    "sport": (
        "the sport of {person}|what {person} trains|{person}'s sport|the sport that {person} trains",
        "Which sport does {person} train?|What sport does {person} do?|What does {person} train?|In which sport does"
        " {person} train?|What is {person}'s sport?|Which sport does {person} do?",
        "the sport {person} does|which sport {person} trains",
        "What sport does {person} train?|Which sport is {person} training?|What kind of sport does {person} do?",
    ),
    "opening": (
        "the opening time of {place}|when {place} opens|the time when {place} opens|{place} opening time",
        "When does {place} open?|At what time does {place} open?|What time does {place} open?|From what time is {place}"
        " open?|How early does {place} open?|When are the doors of {place} opened?",
        "the hour when {place} opens|what time {place} opens",
        "At which time does {place} open?|When is {place} opening?|From when is {place} open?",
    ),
    "closing": (
        "the closing time of {place}|when {place} closes|the time when {place} closes|{place} closing time",
        "When does {place} close?|At what time does {place} close?|What time does {place} close?|Until when is {place}"
        " open?|How late is {place} open?|When are the doors of {place} closed?",
        "the hour when {place} closes|what time {place} closes",
        "At which time does {place} close?|Until what time is {place} open?|When is {place} closing?",
    ),
    "closed_day": (
        "the day when {place} is closed|the closing day of {place}|the day on which {place} is closed|{place} closed"
        " day",
        "On which day is {place} closed?|Which day is {place} closed?|What day is {place} closed?|On what day does"
        " {place} stay closed?|Which day of the week is {place} closed?|On which day is {place} not open?",
        "the weekday when {place} is closed|which day {place} is closed",
        "On what day is {place} closed?|Which weekday is {place} closed?|On which day does {place} not open?",
    ),
    "town": (
        "the town of {place}|the location of {place}|where {place} is|the town where {place} is",
        "Where is {place}?|In which town is {place}?|Which town is {place} in?|What town is {place} in?"
        "|Where can I find"
        " {place}?|In what town does {place} stand?",
        "the town in which {place} stands|which town {place} is in",
        "Which town has {place}?|In what town is {place}?|Where is {place} located?",
    ),
    "room": (
        "the meeting room of the {team} team|the room of the {team} team|where the {team} team meets|the {team} team's"
        " room",
        "Where does the {team} team meet?|In which room does the {team} team meet?|Which room does the {team} team use?"
        "|What is the meeting room of the {team} team?|In what room is the {team} team meeting?"
        "|Which room is booked for"
        " the {team} team?",
        "the room in which the {team} team meets|the {team} team's meeting room",
        "In what room does the {team} team meet?|Which room does the {team} team meet in?|Where is the {team} team"
        " meeting held?",
    ),
    "meeting": (
        "the meeting time of the {team} team|when the {team} team meets|the time of the {team} team meeting|the {team}"
        " team's meeting time",
        "When does the {team} team meet?|At what time does the {team} team meet?"
        "|When is the meeting of the {team} team?"
        "|What time is the {team} team meeting?|On which day and at what time does the {team} team meet?|When is the"
        " {team} meeting?",
        "the day and time of the {team} team meeting|what time the {team} team meets",
        "When is the {team} team meeting?|At which time does the {team} team meet?|When does the meeting of the {team}"
        " team start?",
    ),
    "leader": (
        "the leader of the {team} team|who leads the {team} team|the person who leads the {team} team|the {team} team's"
        " leader",
        "Who leads the {team} team?|Who is the leader of the {team} team?|Which person leads the {team} team?|Who runs"
        " the {team} team meeting?|Who leads the {team} meeting?|Who is in charge of the {team} team?",
        "who is the leader of the {team} team|the one who leads the {team} team",
        "By whom is the {team} team led?|Who is leading the {team} team?|Who heads the {team} team?",
    ),
}
PHRASINGS = {kind: Phrasings(*(spec.split("|") for spec in specs)) for kind, specs in _SPECS.items()}


def draw_time(rng: random.Random) -> str:
    """A time of day on a quarter of an hour."""
    return f"{rng.randint(6, 21)}:{rng.choice(('00', '15', '30', '45'))}"


def write_work(person: str, job: str, place: str, form: int) -> Record:
    """Where a person works."""
    texts = (
        f"{person} works as {job} at {place}.",
        f"The {job} of {place} is {person}.",
        f"{person} is employed as {job} at {place}.",
        f"At {place}, {person} works as {job}.",
    )
    facts = [
        Fact("employer", {"person": person}, place),
        Fact("job", {"person": person}, job),
        Fact("worker", {"place": place, "job": job}, person),
    ]
    left_out = [Fact("home", {"person": person}, ""), Fact("address", {"person": person}, "")]
    return Record(f"{person} - Work", texts[form % len(texts)], facts, left_out)


def write_home(person: str, town: str, address: str, form: int) -> Record:
    """Where a person lives."""
    texts = (
        f"{person} lives in {town}, at {address}.",
        f"The home of {person} is at {address} in {town}.",
        f"{person} has lived in {town} for years. The address is {address}.",
        f"In {town}, {person} lives at {address}.",
    )
    facts = [Fact("home", {"person": person}, town), Fact("address", {"person": person}, address)]
    left_out = [Fact("employer", {"person": person}, ""), Fact("job", {"person": person}, "")]
    return Record(f"{person} - Home", texts[form % len(texts)], facts, left_out)


def write_training(person: str, sport: str, slot: str, place: str, form: int) -> Record:
    """When and what a person trains."""
    texts = (
        f"{person} trains {sport} at {slot} at {place}.",
        f"The {sport} training of {person} is at {slot}. It takes place at {place}.",
        f"{person} goes to {sport} training at {place}, at {slot}.",
        f"For {sport}, {person} trains at {slot} at {place}.",
    )
    facts = [Fact("training", {"person": person, "sport": sport}, slot), Fact("sport", {"person": person}, sport)]
    left_out = [Fact("job", {"person": person}, ""), Fact("home", {"person": person}, "")]
    return Record(f"{person} - Training", texts[form % len(texts)], facts, left_out)


def write_hours(place: str, opens: str, closes: str, day: str, form: int) -> Record:
    """When a place is open."""
    texts = (
        f"{capital(place)} opens at {opens} and closes at {closes}. It is closed on {day}.",
        f"Doors of {place} open at {opens} and close at {closes}, except on {day}, when it is closed.",
        f"{capital(place)} is open from {opens} until {closes}. The closed day is {day}.",
        f"On {day} {place} is closed. On other days it opens at {opens} and closes at {closes}.",
    )
    slots = {"place": place}
    facts = [Fact("opening", slots, opens), Fact("closing", slots, closes), Fact("closed_day", slots, day)]
    return Record(
        f"{place.removeprefix('the ')} - Opening hours", texts[form % len(texts)], facts, [Fact("town", slots, "")]
    )


def write_location(place: str, town: str, address: str, form: int) -> Record:
    """Where a place is."""
    texts = (
        f"{capital(place)} is in {town}, at {address}.",
        f"{capital(place)} stands at {address} in {town}.",
        f"In {town} you find {place} at {address}.",
        f"The town of {place} is {town}. The street is {address}.",
    )
    left_out = [Fact("opening", {"place": place}, ""), Fact("closed_day", {"place": place}, "")]
    return Record(
        f"{place.removeprefix('the ')} - Location",
        texts[form % len(texts)],
        [Fact("town", {"place": place}, town)],
        left_out,
    )


def write_meeting(team: str, room: str, slot: str, leader: str, form: int) -> Record:
    """Where and when a team meets."""
    texts = (
        f"The {team} team meets in room {room} at {slot}. {leader} leads the team.",
        f"{leader} leads the {team} team. Its weekly meeting is at {slot} in room {room}.",
        f"Every week the {team} team comes together in room {room}, at {slot}. The leader is {leader}.",
        f"Room {room} is booked for the {team} team at {slot}. The team is led by {leader}.",
    )
    slots = {"team": team}
    facts = [Fact("room", slots, f"room {room}" if form % 4 != 3 else f"Room {room}"), Fact("leader", slots, leader)]
    facts.append(Fact("meeting", slots, slot))
    return Record(f"{team} team - Weekly meeting", texts[form % len(texts)], facts)


def draw_scene(rng: random.Random, held_out: bool) -> list[Record]:
    """Several sections about a few people, places and teams."""
    names = draw_names(rng, held_out, 14)
    people = [f"{names[0]} {names[1]}", f"{names[2]} {names[3]}", f"{names[4]} {names[5]}"]
    kinds = rng.sample(PLACES, 3)
    # The same name may carry two places, so the kind of place has to be read too.
    second = names[6] if rng.random() < 0.3 else names[7]
    places = [f"the {names[6]} {kinds[0]}", f"the {second} {kinds[1]}", f"the {names[8]} {kinds[2]}"]
    towns = names[9:12]

    # Times of one scene often share their hour, so that a time has to be copied to its end.
    hour = f"{rng.randint(6, 21)}:" if rng.random() < 0.5 else ""

    def time() -> str:
        return hour + rng.choice(("00", "15", "30", "45")) if hour and rng.random() < 0.7 else draw_time(rng)

    def slot() -> str:
        return f"{time()} on {rng.choice(DAYS)}"

    def address() -> str:
        street = rng.choice(names[12:])
        return f"{rng.randint(1, 99)} {street} {rng.choice(STREETS)}"

    def form() -> int:
        return rng.randrange(4)

    def personal(person: str) -> list[Record]:
        return [
            write_work(person, rng.choice(JOBS), rng.choice(places), form()),
            write_home(person, rng.choice(towns), address(), form()),
            write_training(person, rng.choice(SPORTS), slot(), rng.choice(places), form()),
        ]

    def local(place: str) -> list[Record]:
        opens, closes = sorted((draw_time(rng), draw_time(rng)), key=lambda time: int(time.split(":")[0]))
        return [
            write_hours(place, opens, closes, rng.choice(DAYS), form()),
            write_location(place, rng.choice(towns), address(), form()),
        ]

    def meeting(team: str) -> Record:
        return write_meeting(team, rng.choice(names[9:]), slot(), rng.choice(people), form())

    theme = rng.random()
    if theme < 0.45:
        records = personal(people[0]) + rng.sample(personal(people[1]), 2) + rng.sample(personal(people[2]), 1)
    elif theme < 0.7:
        records = local(places[0]) + local(places[1]) + rng.sample(local(places[2]), 1)
    elif theme < 0.85:
        records = [meeting(name) for name in draw_names(rng, held_out, 4)]
    else:
        records = [
            *rng.sample(personal(people[0]), 2),
            *rng.sample(local(places[0]), 1),
            *rng.sample(local(places[1]), 1),
            meeting(names[12]),
            meeting(names[13]),
        ]
    return records


def capital(place: str) -> str:
    """A place as a sentence begins with it."""
    return "The" + place[3:]


def vary_slots(slots: dict[str, str], rng: random.Random) -> dict[str, str]:
    """People are sometimes called by their first name."""
    varied = dict(slots)
    if "person" in slots and rng.random() < 0.08:
        varied["person"] = slots["person"].split(" ")[0]
    return varied
