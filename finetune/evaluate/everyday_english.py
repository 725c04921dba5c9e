# SPDX-License-Identifier: Apache-2.0
"""A hundred everyday sentences, written by hand; neither they nor their like are in training."""

from __future__ import annotations

EVERYDAY_ENGLISH = tuple(
    """
Could you pass me the salt, please?
I'll call you back in ten minutes.
The bus was late again this morning.
We should buy some bread on the way home.
Where on earth did I leave my keys?
It has been raining since yesterday.
My sister is a nurse and works at night.
Let's meet in front of the cinema at seven.
He forgot to close the window before the storm.
They are going to move to a bigger house.
This soup needs a bit more pepper.
I haven't slept well for a week.
What would you like to drink with that?
The children are playing behind the school.
She is learning to play the piano.
Please turn off the light before you leave.
Our train leaves from platform nine in a moment.
Do you remember the name of that restaurant?
I'm afraid I have lost my ticket.
The shop on the corner opens at eight o'clock.
Nobody told me that the meeting was cancelled.
Have a good trip, and write when you arrive!
My phone is almost out of battery.
How long does it take to walk there?
You look tired, maybe you should lie down.
The new neighbours seem very friendly.
I can't find anything to wear tonight.
Would you mind opening the door?
We had pancakes with honey for breakfast.
The doctor said it was only a cold.
Is there a bank anywhere near here?
She laughed so hard that she started to cry.
My grandfather tells the same story every summer.
Take an umbrella, the sky looks dark.
I'd love to come, but I have to work.
The coffee here is better than at the station.
He runs five miles every morning before work.
Did you hear that strange noise last night?
There's no milk left in the fridge.
We are thinking about getting a second dog.
Turn left at the traffic lights, then go straight on.
The film was much longer than I expected.
Could we have the bill, please?
It's so quiet here when the tourists are gone.
I've known her since we were at school together.
The dishes can wait until tomorrow.
Who is going to pick up the kids today?
My favourite season is autumn, because of the leaves.
The lift is broken, so we have to take the stairs.
I promise I will never be late again.
Somebody left a wet towel on the floor.
Are you feeling any better this week?
The museum is free on the first Sunday of the month.
He speaks three languages and sings in a choir.
Can I try these shoes in a smaller size?
Thank you so much for all your help.
The baby finally fell asleep an hour ago.
We missed the beginning of the concert.
That joke was funny the first time.
I usually drink tea instead of coffee.
Don't forget to water the plants while I'm away.
The password must have at least eight letters.
My brother is taller than me, but I am faster.
It smells as if something is burning.
The library was full of students all week.
You can borrow my bicycle if you bring it back.
What time does the last bus leave?
She has worked here longer than anyone else.
I need a haircut before the wedding.
The road is closed because of the snow.
Let me know as soon as you hear something.
We spent the whole afternoon on the beach.
Is this seat taken, or may I sit down?
He put too much sugar in the cake.
The printer has run out of paper again.
I don't understand a word of this letter.
Everyone clapped when the plane landed.
Our team lost by just one point.
The view from the top is worth the climb.
Put the heavy boxes at the bottom.
My parents have been married for thirty years.
Would you rather stay in or go out tonight?
The water is too cold for swimming.
She painted the walls a very bright yellow.
I think we have met somewhere before.
There was a long queue at the airport.
He always hums while he is cooking.
Keep the receipt in case you want to change it.
The moon is bright enough to read by.
We could share a taxi to the hotel.
My computer is getting slower every day.
I bought these apples at the market this morning.
The teacher asked us to speak more slowly.
It was the best holiday we have ever had.
Why don't we sit outside in the sun?
Her letter arrived three weeks too late.
Mind the step, it's slippery when wet.
The little boy wanted to see the elephants.
I'm looking forward to the weekend.
Good night, and don't let the cat in.
""".strip().splitlines()
)
