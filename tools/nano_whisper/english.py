"""English sentences: templates and what fills them. Every word here was written for this recipe."""

WHO = """
I|You|We|They|My friend|My sister|My brother|My mother|My father|The teacher|The doctor|The singer|The actor|
The dancers|The students|The fans|Everybody|Nobody
"""
PAST = """
saw|bought|found|lost|liked|wanted|forgot|needed|made|sold|broke|cleaned|opened|brought|painted|washed
"""
THING = """
the book|the camera|the umbrella|the ticket|the phone|the key|the letter|the picture|the window|the guitar|
the piano|the jacket|the bicycle|the computer|the table|the chair|the clock|the glasses|the wallet|the passport|
the garden|the mirror|the ring|the shoes|the microphone|the album|the suitcase|the newspaper|the blanket|
the candle
"""
PLACE = """
at home|at school|at the station|at the market|at the airport|at the office|in the kitchen|in the park|
in the city|in the library|in the hospital|in the theater|on the beach|on the stage|on the bus|near the river|
near the bridge|behind the house|under the tree|in the mountains|in Seoul|in London
"""
WHEN = """
today|tomorrow|yesterday|tonight|this morning|this afternoon|this evening|last night|last week|next year|
every day|on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|on Saturday|on Sunday|in January|in April|
in August|in December
"""
FOOD = """
some bread|some rice|some noodles|some soup|some chicken|some fish|some cheese|some fruit|an apple|an orange|
a banana|a sandwich|a pizza|some cake|some chocolate|some ice cream|some eggs|a salad|some potatoes|
some strawberries
"""
DRINK = "water|milk|coffee|green tea|orange juice|hot chocolate"
ADJ = """
good|bad|beautiful|cold|warm|hot|expensive|cheap|difficult|easy|boring|funny|quiet|loud|clean|dirty|heavy|empty|
bright|dark|wonderful|terrible|perfect|strange|famous|important|delicious|dangerous|small|large
"""
SUBJECT = """
The weather|The music|The movie|The song|The dance|The concert|The food|The room|The story|The question|
The answer|The road|The game|The lesson|The voice|The world|The sky|The party|The train|The price
"""
VERY = "very|really|too|so|quite|a little"
DO = """
go home|sing a song|dance together|learn Korean|practice English|play football|read a story|write a letter|
take a picture|wash the dishes|watch a movie|swim in the sea|run in the morning|call my mother|wait for the bus|
drive a car|cook dinner|visit my grandmother|sleep well|travel around the world|listen to music|clean my room|
meet my friends|ride a bicycle|drink some water
"""
WANT = """
I want to|I have to|I would like to|We are going to|They want to|Can you|Could we|Do you want to|Please do not|
She likes to|He never wants to|Let us
"""
NAME = "Anna|David|Emma|Jason|Kevin|Laura|Peter|Sophie"
LOVE = "you|me|us|my heart|your heart|the night"
FIXED = """
Hello. Good morning. Good afternoon. Good evening. Good night. Goodbye. See you later. Thank you very much. You
are welcome. Excuse me. I am sorry. No problem. How are you? I am fine. Nice to meet you. What is your name?
Where are you from? How old are you? What time is it? What is this? Who is that? Why not? How much is it? Please
speak slowly. Please say that again. I do not understand. I do not know. Help me. Be careful. Hurry up. Come
here. Sit down. Stand up. Turn left at the corner. Turn right. Go straight. Where is the bathroom? Where is the
nearest subway station? Happy birthday. Congratulations. Happy new year. Good luck. Have a nice day. Take care
of yourself. Open the door. Close the window.
"""
SONG = """
Sing it for {l}. Dance with {l} under the stars. I will never let {l} go. Shine like a diamond. Feel the rhythm
of {l}. Turn up the volume. Put your hands up. Clap your hands. Jump to the beat. Fire in my soul. Dreams come
true. We are flying higher. One two three four. Take a step to the left. Take a step to the right. Bend your
knees. Raise your arms. Spin around slowly. Dynamite in the dark. Follow your dream. Everybody make some noise.
Love yourself. Kiss the rain. Wake up the dragon. Golden butterfly. Crazy about {l}. Forever young.
"""
DRAMA = """
{n} please do not leave me. {n} listen to me. {n} stop crying. {n} tell me the truth. I cannot believe you lied.
Will you marry me? I have always loved you. He is not my son. Keep this secret forever. It was all my fault.
Never give up. Trust me this time. You promised to come back. The king has returned. I know who the killer is.
We should break up. This is our destiny. I missed you so much. My father must not know. The chairman is in
danger. Nothing can change the past. Somebody stole the money. She woke up from a long dream. Get out of my
house.
"""

TEMPLATES = (
    (4, "{WHO} {PAST} {THING} {PLACE}."),
    (3, "{WHO} {PAST} {THING} {WHEN}."),
    (2, "{WHO} ate {FOOD} {PLACE}."),
    (2, "I would like {FOOD} and {DRINK}."),
    (2, "{WHO} drank {DRINK} {WHEN}."),
    (4, "{SUBJECT} is {VERY} {ADJ}."),
    (2, "{SUBJECT} was {ADJ} {WHEN}."),
    (3, "{WANT} {DO}."),
    (3, "{WANT} {DO} {WHEN}."),
    (2, "Where is {THING}?"),
    (2, "{NAME} and {NAME} were {PLACE} {WHEN}."),
    (3, "{NUMBER} plus {NUMBER}."),
    (2, "The bus leaves at {HOUR} {MINUTE}."),
    (2, "My number is {DIGITS}."),
    (2, "It costs {NUMBER} dollars."),
    (2, "{FIXED}"),
    (2, "{SONG}"),
    (2, "{DRAMA}"),
    (2, "{SONG} {SONG}"),
    (2, "{DRAMA} {DRAMA}"),
    (2, "{FIXED} {FIXED}"),
    (8, "{ANY}"),
)
