# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: SIM905 - word lists read best as text
"""Sentence templates of everyday English; `english.SentenceMaker` fills the braces."""

from __future__ import annotations

STATEMENTS = tuple(
    """
{name} {did} {the_thing} {when}.
{name} and {name} {went} to {place} {when}.
My {relative} {did} {a_thing} in the {room}.
The {person} {did} {the_thing} before {time}.
I left {the_thing} in the {room}.
There is {a_thing} on the {furniture}, next to the {thing}.
We need {small} {things} and {some} {food}.
It will be {weather} in {place} {future}.
She is {doing} {the_thing} for her {relative}.
He {adverb} {did} {the_thing}.
They {did} {the_things} and then {went} home.
The {animal} {intransitive_past} under the {furniture}.
{name} lives at {small} {name} Street, near {the_place}.
I would rather {do} {a_thing} than {do} {a_thing}.
You can't {do} {the_thing} without {a_thing}.
Our {person} from {place} has never seen {a_thing} like this.
If you {do} {the_thing}, the {thing} will {intransitive}.
When {name} {intransitive_past}, the whole {spot} {intransitive_past}.
Nobody {did} {the_thing} except {name}.
It costs {price}, which is {adjective}.
The number is {digits}.
In {year}, {name} moved from {place} to {place}.
The train to {place} leaves at {time} from platform {small}.
I was born on the {ordinal} of {month}, {year}.
About {large} people live in {place}.
She {did} it {adverb}, without {a_thing}.
The {color} {thing} belongs to {name}'s {relative}.
Everybody thinks {name} is {adjective} and {adjective}.
This {food} tastes like {food} with {some} {substance}.
The {body} of the {animal} is {color} and {adjective}.
I have been {doing} {things} since {year}.
After {small} hours of {doing}, we were {adjective}.
His {idea} about {the_thing} was {adjective}, but {adjective}.
The {event} at the {spot} began at {time}.
A {adjective} {person} {did} {a_thing} and {intransitive_past}.
What I want is {a_thing}, not {a_thing}.
Mister {name} bought {small} {things} for {price}.
Doctor {name} said the {body} was {adjective}.
On {day}, {name} will {do} the {things}.
Every {day} morning we {do} the {plant} behind the house.
It's {adjective} to {do} {a_thing} at {time}.
The {message} from {name} was {adverb} {adjective}.
You should never {do} {a_thing} with {a_thing}.
{number} {things} were found near {place}.
The {substance} in the {thing} is {adjective}.
I think the {person} is {doing} our {thing}.
They say that {feeling} and {feeling} go together.
Between {place} and {place} there are {small} {objects}.
Because of the {phenomenon}, the {event} was {adjective}.
{name}'s {thing} is {adverb} {adjective}.
The word {word} means {something}.
Her {feeling} was as {adjective} as {a_thing}.
We {did} the {person}, the {person} and the {person}.
Once there was {a_person} who {did} every {animal} in {place}.
The {ordinal} {thing} is {color}, the {ordinal} one is {color}.
I'm {doing} {a_thing} because my {relative} asked me to.
It took {name} {small} days to {do} the {object}.
The {act} of the {person} surprised the {person}.
Most {persons} {do} their {things} on {day}.
{small} percent of the {persons} {did} the {idea}.
My favourite words are {word}, {word} and {word}.
Her name is {name} {name}, and she comes from {place}.
The list has {word}, {word}, {word} and {word}.
""".strip().splitlines()
)

QUESTIONS = tuple(
    """
Did you {do} the {thing} {when}?
Where did {name} put the {adjective} {thing}?
How many {things} does {name} have?
Why is the {animal} {doing} the {food}?
Who {did} my {thing}?
Have you ever seen {a_thing} in {place}?
Can you {do} {the_thing} by {time}?
What would happen if the {person} {did} the {thing}?
Is {name} still {doing} {things} in {place}?
Do you want {food} or {food}?
Shall we {do} the {thing} {future}, or wait until {day}?
When does the {spot} in {place} open?
Could you tell me the way to {the_place}, please?
What does {word} mean?
Isn't the {thing} too {adjective} for {a_person}?
Which {thing} is more {adjective}, the {color} one or the {color} one?
How much is the {adjective} {thing}?
Would you {do} {a_thing} for {price}?
Are you sure that {name} {did} {the_thing}?
What time is it in {place}?
Has the {person} {adverb} {did} the {act}?
Whose {thing} is this {color} one?
Will {name} be {adjective} when we {do} the {thing}?
What kind of {thing} do {persons} like?
""".strip().splitlines()
)

REPLIES = tuple(
    """
Yes, I {did} it {when}.
No, {name} did.
I don't know, ask the {person}.
Of course, it's in the {room}.
Well, it was {adjective}.
{name}, I think.
{number}.
At {time}, on {day}.
Oh, that's {adjective}!
Really? I thought it was {adjective}.
Not before {time}.
Because {name} wanted {a_thing}.
Probably {a_thing} from {place}.
Thank you, {name}.
You're welcome, {name}.
I'm afraid the {thing} is {adjective}.
Only {small} of them.
It costs {price}.
That's what the {person} said, too.
Maybe next {day}.
Please {do} it again.
Sorry, I was {doing} the {thing}.
Yes, and {some} {food} as well.
Never, not even in {place}.
My {relative} told me.
Fine, then I'll {do} the {things}.
""".strip().splitlines()
)

SHORT = tuple(
    """
Hello, {name}.
Good morning, {name}.
Good evening, everybody.
How are you today?
I'm fine, thank you.
See you on {day}.
{word}.
{word} and {word}.
The {thing}.
{adjective}, isn't it?
Welcome to {place}!
Happy birthday, {name}!
{do} the {thing}!
Don't {do} it.
Wait a minute, {name}.
Good night, {name}, sleep well.
Let's go to {place}.
{a_thing}, please.
Nice to meet you, {name}.
What a {adjective} {thing}!
{name} {name}.
{letters}.
{digits}.
{time}.
{year}.
""".strip().splitlines()
)

HELD_OUT = tuple(
    """
Yesterday the {person} showed us {a_thing} made of {substance}.
{name} says the {thing} has been {adjective} since {month}.
Please put the {color} {thing} behind the {furniture}.
Are there any {things} left for my {relative}?
My {relative} never {did} {a_thing} in {place}.
We paid {price} for {small} {adjective} {things}.
The {person} and the {animal} {intransitive_past} together.
Does {name} know how to {do} {a_thing}?
I met {a_person} called {name} at {the_place}.
Tomorrow at {time} we will {do} the {thing}.
It isn't {adjective}, it's {adverb} {adjective}.
Would you like some {food} with your {food}?
The old {thing} in the {room} is full of {things}.
In {month} the {persons} {do} {the_things}.
Give the {thing} to {name}, not to me.
""".strip().splitlines()
)
"""Templates that no training sentence comes from."""

OPENINGS = (
    "Well,", "So,", "Look,", "Actually,", "By the way,", "Oh,", "You know,", "Honestly,",
    "Listen,", "Anyway,", "Of course,", "Perhaps", "I think", "I heard that", "They say",
)  # fmt: skip
JOINTS = (
    "and", "but", "because", "so", "while", "and then", "although", "before", "after",
    "even though", "which means that", "until",
)  # fmt: skip

LISTS: dict[str, tuple[str, ...]] = {
    "day": tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()),
    "month": tuple(
        "January February March April May June July August September October November "
        "December".split()
    ),
    "color": tuple(
        "red green blue yellow black white brown grey pink orange purple silver golden".split()
    ),
    "relative": tuple(
        "mother father sister brother aunt uncle cousin grandmother grandfather daughter son wife "
        "husband niece nephew neighbour friend teacher boss".split()
    ),
    "room": tuple(
        "kitchen bathroom bedroom garden garage cellar attic hall office library basement "
        "classroom".split()
    ),
    "furniture": tuple("table chair shelf sofa desk bed cupboard bench counter stove".split()),
    "weather": tuple("sunny rainy cloudy windy foggy cold warm hot stormy dry wet icy".split()),
    "when": ("yesterday", "last week", "this morning", "on Monday", "an hour ago", "last night",
             "in the afternoon", "again", "two years ago", "at noon", "on Sunday", "today"),
    "future": ("tomorrow", "tonight", "next week", "on Friday", "this evening", "in the morning",
               "later", "next year", "on Saturday", "soon"),
    "went": ("went", "drove", "walked", "came back", "travelled", "flew", "moved", "returned"),
    "some": ("some", "a little", "a lot of", "enough", "no", "more", "fresh", "plenty of"),
    "something": ("something else", "nothing to me", "a kind of thing", "the same as before",
                  "more than you think", "what it says"),
    "the_place": ("the station", "the market", "the old bridge", "the post office", "the harbour",
                  "the hospital", "the university", "the town hall", "the river", "the airport"),
    "first_name": tuple(
        "Anna Ben Clara David Emma Frank Grace Henry Ida Jack Kate Leo Maria Nick Olivia Paul "
        "Rose Sam Tina Victor Wendy Alice Bob Charles Diana Edward Fiona George Helen Ian Julia "
        "Kevin Laura Martin Nancy Oscar Peter Quentin Rachel Steven Thomas Ursula Vera William "
        "Sarah John Mary James Robert Linda Michael Susan Lisa Karen Daniel Sophie Lucy Mia Noah "
        "Liam Ethan Zoe Ella Max Eva Adam Ruth Simon Hannah Jacob Chloe".split()
    ),
}  # fmt: skip
