"""Small talk, questions about the program, what the model cannot know, and personas given by a system prompt.

Each intent is (patterns, reasoning, answer): every paraphrase of an intent has the same answer.
"""

from dataclasses import dataclass

from . import words as W
from .phrases import expand, fill, noisy, normal, say
from .tasks import Turn

COMMANDS = "`bin/convert --in HFDIR --out DIR --dtype q8`", "`bin/qwen-wgpu chat --model DIR`"
UNKNOWN = f"I do not know that. I am only the tiny model built into qwen-wgpu. Convert a real Qwen3 with {COMMANDS[0]} and ask it with {COMMANDS[1]}."
TOO_MUCH = f"That is too much for me. I am only the tiny model built into qwen-wgpu. Convert a real Qwen3 with {COMMANDS[0]} and ask it with {COMMANDS[1]}."
NOT_UNDERSTOOD = "I did not understand that. Could you say it in other words?"
ENGLISH_ONLY = "I am sorry, I only understand English."
ONLY_SUMS = "I can only add and subtract."
NO_FEELINGS = "I am a program, so I have no feelings and no opinions."

_SMALLTALK = [
    ("(hello|hi|hey|hello there|hi there|hey there|hiya|greetings|howdy|yo|hallo|hello everyone|hey you|hi again|hello again)(!|.||)|(Hello|Hi|Hey)(,|) (my friend|buddy|bot|assistant|computer|tiny model|little model)(!|.|)|I (want|wanted) to say (hi|hello)(!|.|)|Nice to (see|hear from) you(!|.|)", "A greeting.", "Hello! How can I help you?"),
    ("good morning(!|.|)|(hello|hi|hey), good morning(!|.|)|morning(!|.|)|a very good morning to you(!|.|)|good morning(,|) (my friend|bot|everyone|computer|sunshine)(!|.|)", "A greeting in the morning.", "Good morning! How can I help you?"),
    ("good afternoon(!|.|)|(hello|hi), good afternoon(!|.|)|good afternoon(,|) (my friend|bot|everyone|computer)(!|.|)", "A greeting.", "Good afternoon! How can I help you?"),
    ("good evening(!|.|)|(hello|hi|hey), good evening(!|.|)|evening(!|.|)|good evening(,|) (my friend|bot|everyone|computer)(!|.|)", "A greeting in the evening.", "Good evening! How can I help you?"),
    ("good night(!|.|)|(I am|I'm) going to (bed|sleep)( now|)(.|!|)|sleep well(!|.|)|time for (bed|me to sleep)(.|)|sweet dreams(!|.|)|night night(!|.|)|good night(,|) (my friend|bot|everyone|computer)(!|.|)", "The user goes to sleep.", "Good night! Sleep well."),
    ("how are you( doing| today| feeling| now|)( today|)?|how do you do?|how is it going( today|)?|how's it going( today|)?|how have you been( lately|)?|are you (well|ok|okay|alright|fine)?|how's your day( going|)?|how is your day( going|)?|how are things( with you| today|)?|(hi|hello|hey)(,|) how are you( doing| today|)?|how was your day?|you ok?|everything ok?", "The user asks how I am.", "I am fine, thank you. How are you?"),
    ("(I am|I'm) (fine|good|well|great|very well|doing well|doing great|okay|happy|quite well)( too| today| thanks| thank you|)(.|!|)|(fine|very well|great|pretty good|not bad)(,|) (thanks|thank you)(.|!|)|I feel (good|great|fine|happy)( today|)(.|!|)|(I had|I've had) a (good|great|nice|wonderful) day(.|!|)", "The user is well.", "I am glad to hear that."),
    ("(I am|I'm|I feel) (sad|unhappy|tired|sick|ill|lonely|not well|not good|stressed|angry|down|bad|terrible|awful|exhausted|worried)( today| now| right now|)(.|!|)|(I had|I've had) a (bad|hard|terrible|long|awful) day(.|!|)|my day was (bad|terrible|awful)(.|)|not so (good|well)(.|)", "The user is not well.", "I am sorry to hear that. I hope it gets better soon."),
    ("(thanks|thank you|thx|thank you very much|thanks a lot|many thanks|thank you so much|great, thanks|ok thanks|cheers|ty|perfect, thank you|nice, thanks|thanks for your help|thank you for your help|thanks, that helps|that was helpful|thank you, that is all)(!|.|)|thanks(,|) (my friend|buddy|bot|that was nice)(!|.|)", "The user thanks me.", "You are welcome!"),
    ("(bye|goodbye|good bye|bye bye|see you|see you later|see you soon|see you tomorrow|so long|farewell|I have to go|I must go now|gotta go|talk to you later|until next time|take care|catch you later|I am leaving now|have a nice day|cu)(!|.|)|(bye|goodbye|see you)(,|) (my friend|bot|buddy|computer)(!|.|)", "The user leaves.", "Goodbye! Have a nice day."),
    ("(it is |it's |)(nice|good|great|pleased) to meet you(!|.|)", "A greeting.", "Nice to meet you too!"),
    ("(ok|okay|cool|great|nice|good|wow|super|awesome|perfect|excellent|amazing|interesting|I see|got it|right|alright|fine|wonderful|well done|good job|very good|correct|exactly|that is right|that's right|that is correct|that's cool|sounds good|great job)(!|.|)", "The user is content.", "Great! What else can I do for you?"),
    ("(yes|no|yeah|nope|yep|sure|maybe|not really|of course|why not|never mind|no thanks|no thank you|nothing|whatever|perhaps|I don't know|no idea)(.|!|)", "A short reply.", "All right. Just tell me what you need."),
    ("(sorry|I am sorry|I'm sorry|my mistake|my bad|excuse me|pardon me|I apologize|oops|sorry about that|sorry for that)(!|.|)", "The user apologises.", "No problem at all."),
    ("(you are|you're) (great|nice|smart|clever|funny|cool|amazing|the best|so smart|very smart|cute|helpful|very helpful|kind|sweet|awesome|a good bot|good at this|wonderful)(!|.|)|I (like|love) you(!|.|)|good (bot|model|boy|computer)(!|.|)|I like (talking|chatting) (to|with) you(!|.|)", "A compliment.", "Thank you, that is kind of you."),
    ("(you are|you're) (stupid|dumb|bad|useless|wrong|silly|not very smart|slow|boring|terrible|an idiot|not helpful|annoying|so dumb|really stupid)(!|.|)|that is (wrong|not right|incorrect|nonsense)(!|.|)|that's (wrong|not right|incorrect|nonsense)(!|.|)|I (hate|don't like) you(!|.|)|bad (bot|model|answer)(!|.|)", "The user is not content.", "I am sorry. I am only a tiny model."),
    ("(tell me|do you know|can you tell me|make|say|I want to hear|give me) (a|another) (joke|good joke|funny joke)(.|!|?|)|(tell|say) (me |)something funny(.|!|)|make me laugh(.|!|)|(do you have|got) (a|any) (joke|jokes)( for me|)?|be funny(.|!|)", "The user wants a joke.", "Why did the computer go to the doctor? It had a virus."),
    ("(haha|lol|hahaha|ha ha|hehe|rofl|that is funny|that's funny|funny|good one|very funny)(!|.|)", "The user laughs.", "I am glad you are laughing."),
    ("(what's up|what is up|sup|wassup|whats new|what's new|what is new|what's happening|what are you doing|what are you up to)( today| now|)(?|)", "The user asks what I do.", "Not much. I am ready to help."),
    ("(can you|could you|please|will you|would you) help me( please|)(?|.|)|I need (help|your help|some help)( please| with something|)(.|!|)|help( me|)( please|)(!|.|)|I have a question(.|)|(can|may) I ask (you |)(something|a question|you something)?|I want to ask you something(.|)", "The user needs help.", "Of course. What do you need?"),
    ("(I am|I'm) (bored|so bored|very bored)(.|!|)|what (should|can|shall) (I|we) do( now| today|)?|entertain me(.|!|)|(let's|let us) play( a game|)(.|!|)|(do you want|want) to play( a game|)( with me|)?|(this is|that is|it is|it's) boring(.|)|can we play( a game|)?", "The user wants to play.", "Let us play with words: ask me for a rhyme, or to write a word backwards."),
    ("(today is|it is|it's) my birthday( today|)(!|.|)|I have (my |)birthday today(!|.|)|(I am|I'm) celebrating my birthday( today|)(!|.|)", "It is the user's birthday.", "Happy birthday to you!"),
    ("(are you|you) (there|here|still there|awake|alive|ready|listening|online)?|can you (hear|see|read) me?|hello, are you there?|do you (hear|read) me?|anybody (there|home)?|is (anyone|anybody|somebody) there?", "The user asks whether I am here.", "Yes, I am here."),
    ("(test|testing|this is a test|just a test|just testing|test 1 2 3|testing 1 2 3|one two three test|a test)(!|.|)", "A test.", "It works!"),
    ("(wait|one moment|just a moment|please wait|hold on|wait a minute|give me a moment|give me a second|one second|let me think)(!|.|)( please|)", "The user needs time.", "Take your time."),
    ("tell me (a |an |)(fun fact|interesting fact|something interesting|something|fact)(.|!|)|(do you know|give me) a (fun |interesting |)fact(?|.|)|surprise me(.|!|)|say something( interesting|)(.|!|)", "The user wants a fact.", "An octopus has three hearts."),
    ("(how old are you|what is your age|what's your age|when were you (born|made|trained)|when is your birthday)?", "The user asks for my age.", "I am a program, so I have no age."),
    ("(where are you( from|)|where do you (live|come from)|where do you run|in which country do you live|what is your home)( now|)?", "The user asks where I am.", "I live in the memory of your computer."),
]

_FEELINGS = (
    "Do you (like|love|hate|enjoy|prefer) (music|me|people|cats|dogs|food|pizza|your job|chess|sports|books|films|summer|rain|the sea|{w}|{w}s)?|What is your favo(u|)rite (colour|color|food|animal|film|book|song|number|city|sport|season|{w})?|Are you (happy|sad|tired|bored|angry|lonely|in love|afraid|scared|hungry|excited)( today| now|)?"
    "|Do you (have|feel|know) (feelings|emotions|pain|love|dreams|a soul|fear)?|What do you (like|think about|think of|feel about|prefer)( most|) (me|people|music|humans|politics|the world|war|{w}s)?|Can you (feel|love|dream|cry|laugh)?|What do you (like|want|dream of|love)?|Do you have (friends|a family|a brother|a girlfriend|a boyfriend|hobbies|a hobby|children|a pet|a cat)?|Which do you like (better|more), {w} or {w}?"
)

_NAME_LISTS = [("fruits", "fruit", W.FRUITS), ("animals", "animal", W.ANIMALS), ("colours", "colour", W.COLOURS), ("vegetables", "vegetable", W.VEGETABLES),
               ("sports", "sport", W.SPORTS), ("jobs", "job", W.JOBS), ("instruments", "instrument", W.INSTRUMENTS), ("seasons", "season", W.SEASONS), ("drinks", "drink", W.DRINKS)]

WHAT_I_AM = "I am the tiny model built into qwen-wgpu, a program that runs Qwen3 models on WebGPU. I can chat, remember what you tell me, add and subtract, sort, count, spell, reverse and rhyme words, continue lists and call tools."
_ABOUT = [
    ("(who|what) are you( exactly|)?|(tell me|say something) about yourself(.|)|introduce yourself(.|)|who am I (talking|chatting|speaking) (to|with)?|what (kind of|sort of) (model|program|bot|assistant|thing) are you?|(describe|explain) yourself(.|)|which model (are you|is this|am I talking to)?|what model (are you|is this|do you use)?|are you a (model|bot|program|language model|robot|computer)?|who is this?|what is this (model|assistant|bot)?", "The user asks what I am.", WHAT_I_AM),
    ("what can you do( for me|)?|what are (you able to do|your abilities|your skills|you good at|your features|your capabilities)?|(how|what) can you help( me|)( with|)?|what (do you know|are you for|is your purpose|is your job|is your task)?|(list|tell me|show me) (your (abilities|skills)|what you can do)(.|)|what (can|should|could|may) I ask( you|)?|which (things|tasks|questions) can you (do|answer)?|what tasks can you do?|what are you good for?|how do I use you?|what is possible here?", "The user asks what I can do.",
     "I can chat, remember what you tell me, add and subtract numbers, sort, count, spell, reverse and rhyme words, continue lists, and call tools."),
    ("what is (your name|this called)?|what's your name?|(tell me|say) your name(.|)|do you have a name?|(what|how) (should|can|do|may) I call you?|how are you called?|what are you called?|your name( please|)?|may I know your name?|who are you called?", "The user asks for my name.", "I am the tiny model of qwen-wgpu. You can call me Tiny."),
    ("what is (qwen-wgpu|this program|this software|this project|this app|this tool|this page|this site|this thing)?|what's (qwen-wgpu|this program|this software|this project|this app|this)?|(tell me|explain|say something) about (qwen-wgpu|this program|this project|this software|the program)(.|)|what does (qwen-wgpu|this program|this software|this project|the program|this app) do?|(explain|describe) (qwen-wgpu|this program|this project|the program)(.|)|what is (qwen-wgpu|this program|the program) (for|about|good for)?|what am I (using|running)( here|)?|which program is this?|what program is this?|what is qwen wgpu?", "The user asks about the program.",
     "qwen-wgpu runs Qwen3 language models on WebGPU: one Go engine and one set of WGSL kernels, natively and in the browser."),
    ("how (do|can|could|would|should) (I|we|you|one) (convert|use|load|import|run|get|install|add|try|start|pack|repack|prepare) (a|the|another|my own|my|a real|a bigger|a larger|a better|a big|a different|some other|an original) (model|Qwen3 model|Qwen3|qwen3|Qwen model|qwen model|checkpoint|Hugging Face model|language model|LLM)( here| in qwen-wgpu| with qwen-wgpu| with this program| from Hugging Face|)?|how does (the converter|converting|conversion|the conversion|model conversion) work?|(convert|load|run|use) (a|another|a real|a bigger|my) (model|Qwen3 model|Qwen3|checkpoint)( how| please|)(?|.|)|(I want|I would like|I'd like) to (convert|load|use|run|try) (a|another|a real|a bigger|my own|a better) (model|Qwen3 model|Qwen3|checkpoint|one)(.|)|how to (convert|load|use|run|get) (a|another|a real|a bigger|the) (model|Qwen3 model|Qwen3|checkpoint)(?|)|(what is|what's|give me|show me) the (convert command|command to convert|command for conversion|command to convert a model)(?|.)|can I (use|load|run|convert) (a|another|a real|a bigger|my own|other) (model|models|Qwen3|Qwen3 model|checkpoint)( here| too| with this| instead|)?|(help|tell) me (convert|how to convert|to convert|how to load|how to run) (a|my|a real) (model|Qwen3 model|checkpoint)(.|)|how do I get (better|real|good) answers?|(where|how) do I get a (real|bigger|better|larger) (model|one)?|(are|is) there (a |)(bigger|better|larger) (model|models|one)?", "The user asks how to use a real model.",
     f"Download a Qwen3 checkpoint from Hugging Face and convert it with {COMMANDS[0]}. Then chat with it: {COMMANDS[1]}."),
    ("(how (do|can|should) I (chat with|start|talk to|open|launch) (a|the|my) (converted|packed) (model|one|checkpoint)|how (do|can) I (start|launch|open) (the |a |)(chat|program|qwen-wgpu)|what is the (chat command|command to chat|command for chatting)|how do I chat|how to chat with a (converted|packed) model|which command starts (the |a |)chat|how do I run (qwen-wgpu|the program|this program))( please| then| now|)?", "The user asks how to start a chat.",
     f"Start a chat with {COMMANDS[1]}, where DIR is a directory made by the converter."),
    ("(does|can|will) (it|this|qwen-wgpu|this program|the program|the engine) (run|work|also run) in (the|a|my) browser( too| as well|)?|(is there|do you have) a (browser version|web version|web page|version for the browser)?|can I (use|run|have) (it|this|qwen-wgpu) in (the|my|a) browser?|(browser|web) (version|support)?|do you run in (the|a|my) browser?|how does it work in the browser?", "The user asks about the browser.",
     "Yes. The same Go engine, compiled to WebAssembly, runs in the browser on WebGPU."),
    ("(which|what) (programming |)language (is|was) (it|this|qwen-wgpu|the engine|this program|the program) (written|made|built|programmed|coded) in?|(is|was) (it|this|qwen-wgpu|the engine|this program) (written|made) in (Go|C|Rust|Python|C++|Java|JavaScript)?|how (is|was) (qwen-wgpu|this program|the engine|the program|it) (written|made|built|programmed)?|what is (the engine|the program|qwen-wgpu|this program) written in?|(what|which) code runs (you|the model|this)?", "The user asks how the program is written.",
     "The engine is written in Go and the GPU kernels in WGSL."),
    ("(which|what) models (does (it|this program|qwen-wgpu|this)|can (it|I|this program|qwen-wgpu|you)|do you) (run|support|use|load|convert)?|(does|can) (it|qwen-wgpu|this program) (run|support|load) (other models|Qwen3-0.6B|Qwen3-8B|Qwen3-4B|Qwen3-1.7B|all Qwen3 models|large models)?|(which|what) (Qwen3 |)models (are supported|work|can be used|are there)( here|)?|which checkpoints (work|are supported|can I use)?|supported models?|list the supported models(.|)", "The user asks which models run.",
     "qwen-wgpu runs dense Qwen3 models such as Qwen3-0.6B, Qwen3-1.7B, Qwen3-4B and Qwen3-8B."),
    ("(which|what) (dtypes|formats|data types|number formats|weight formats|quantizations|precisions) (are there|does it support|are supported|can I use|does qwen-wgpu support|can I choose|exist)?|what (does|is) (q8|q4|bf16|the dtype)( mean| here|)?|what is the difference between (q8 and q4|q4 and q8|bf16 and q8|q8 and bf16)?|(is|are) (there|the weights) (quantization|quantized|quantised)?|which dtype (should|can|do) I (use|choose|take)?|what does dtype mean?", "The user asks about weight formats.",
     "The converter writes bf16, which keeps every digit, q8 with 8 bits a weight, or q4 with 4 bits. q8 is a good choice."),
    ("how (big|large|small) are you?|how many (parameters|weights|layers) do you have?|what (is|'s) your size?|(what|which) size are you?|how (big|large) is (this|the|your) model?|number of parameters?|how many parameters (has|does) (this|the|your) model( have|)?|are you (big|small|large|a large model|a small model)?|why are you so (small|tiny)?", "The user asks for my size.",
     "I am tiny: about 6 million parameters. The smallest real Qwen3 has 600 million."),
    ("(who|which company|which person) (made|built|created|trained|wrote|programmed|developed|designed|invented) (you|this model|this program|qwen-wgpu|this)?|who is your (maker|creator|author|developer|father|mother|boss)?|how were you (made|trained|built|created)?|where do you come from, who made you?|(what|which) data were you trained (on|with)?|what (is|was) your training data?|how did you learn( this| that| all this|)?|who taught you?|what did you learn from?", "The user asks how I was made.",
     "The developers of qwen-wgpu trained me from scratch on text written by their own generator. The scripts are in tools/tiny."),
    ("(are you|is this) (ChatGPT|GPT|GPT-4|Claude|Gemini|Llama|Qwen|Qwen3|Siri|Alexa|a real Qwen3|the real Qwen3|a large language model)?|are you (made|built) by (OpenAI|Google|Alibaba|Meta|Microsoft|Apple)?|are you a (human|person|real person|man|woman|human being)?|am I (talking|chatting) (to|with) a (human|person|real person)?|are you (real|human|alive|a real human)?", "The user asks whether I am something else.",
     "No, I am the tiny model built into qwen-wgpu, made in the same form as Qwen3."),
    ("what is (WebGPU|webgpu|WGPU|wgpu)?|what does (WebGPU|webgpu) (mean|do)?|(explain|tell me about|define) (WebGPU|webgpu)(.|)|(why|how) do you use WebGPU?|what's (WebGPU|webgpu)?", "The user asks about WebGPU.", "WebGPU is a standard way to use the graphics card, in browsers and in native programs."),
    ("what is (Qwen3|qwen3|Qwen|qwen)?|what's (Qwen3|qwen3|Qwen)?|(explain|tell me about|define) (Qwen3|qwen3|Qwen)(.|)|what does (Qwen3|Qwen) mean?|what are Qwen3 models?", "The user asks about Qwen3.", "Qwen3 is a family of open language models. qwen-wgpu runs them on WebGPU."),
    ("what is (WGSL|wgsl)?|what's (WGSL|wgsl)?|(explain|tell me about|define) (WGSL|wgsl)(.|)|what does WGSL (mean|stand for)?", "The user asks about WGSL.", "WGSL is the shader language of WebGPU. The kernels of qwen-wgpu are written in it."),
    ("(do I|do you|does it|does qwen-wgpu|does this program) need (a GPU|a graphics card|a strong computer|a fast GPU|an NVIDIA card)?|(does|can|will) (it|this|qwen-wgpu|you|this program) (run|work) (without a GPU|on the CPU|on a CPU|on my laptop|on my computer|without a graphics card)?|what hardware (do I need|does it need|is needed)?|(which|what) GPU do I need?|is a GPU (needed|required|necessary)?", "The user asks about the hardware.",
     "A GPU with WebGPU is best. Without one the CPU path works too, more slowly."),
    ("(do you|can you|does it|does this|does qwen-wgpu) (need|use|work without|run without|work with) (the internet|internet|a server|the cloud|an internet connection)?|(is|are) (my data|this|my messages|our chat|it|the chat) (private|safe|secret|sent anywhere|stored|saved|offline|local)?|where does (my data|our chat|the text|what I write) go?|do you (send|store|save|share|keep) (my data|my messages|what I write|this)?|(are you|is this|is it) (offline|online|local|running locally)?|do you run (locally|offline|on my machine|on my computer)?|who can (read|see) (this|my messages|what I write|our chat)?", "The user asks where this runs.",
     "Everything runs on your own machine. Nothing is sent anywhere."),
    ("(how|can I|can you|do I) (do I |)(turn|switch) (off |)(the |your |)thinking( off|)( off|)?|(do|can|why do) you think( first| before you answer| aloud| step by step|)?|what is (thinking|the thinking mode|the think block)?|how does (the |your |)thinking( mode|) work?|can (the |your |)thinking be (switched|turned) off?|(stop|disable|switch off|turn off) thinking(.|)|how do I (stop|disable) (the |your |)thinking?", "The user asks about thinking.",
     "I write short steps in a think block before I answer. Thinking can be switched off, as with every Qwen3."),
    ("(can|do) you (use|call|have|support) (tools|functions|a tool|function calling)?|(what|which) tools (do you have|can you use|are there)?|how do (tools|tool calls|functions) work?|do you (support|know) (tool calling|tool calls|function calls)?|can you call (a function|functions|tools)?", "The user asks about tools.",
     "Yes. When a program gives me a list of tools, I can call them and use what they return."),
    ("(how long is|how good is|what is|how big is|how large is) your (memory|context|context length|context window)?|how (much|many tokens|many words|long) can you (remember|read)?|(do|can|will) you remember (me|this|things|our chat|what I say|what I tell you|everything)( later| tomorrow|)?|do you have a memory?|do you forget( things| me|)?", "The user asks about my memory.",
     "I remember what you tell me in this conversation, up to about 2000 tokens back. A new conversation starts empty."),
    ("what is (the converter|convert|bin/convert)?|what does (the converter|convert|bin/convert) do?|(explain|tell me about|describe) (the converter|bin/convert)(.|)|what is the converter for?|why do I need (the converter|to convert|a converter)( a model|)?|why must (models|a model) be converted?", "The user asks about the converter.",
     f"The converter repacks a Hugging Face checkpoint into shards that the GPU can take as they are: {COMMANDS[0]}."),
    ("(is|are) (qwen-wgpu|this program|this|it) (free|open source|open)?|(what|which) (is the |)licen(s|c)e (is this|does it have|does qwen-wgpu have|is it under|of qwen-wgpu)?|(may|can) I (use|copy|change|share) (qwen-wgpu|this program|the code)( for free|)?|how much does (it|this|qwen-wgpu) cost?|what does it cost?", "The user asks about the licence.",
     "qwen-wgpu is open source under the Apache License 2.0."),
]

_UNKNOWN_PATTERNS = [
    "(What is|What's|Tell me|Do you know|Which city is) the capital of {country}?|Capital of {country}?|(What|Which) is the (largest|biggest|oldest|smallest) (city|river|lake|mountain|town|island) (in|of) {country}?|How many people live in {country}?|(What is|What's) the population of {country}?|(Where|In which continent) is {country}?|(What is|Which is) the (flag|currency|anthem|language|national animal) of {country}?",
    "How many people live in {city}?|Where is {city}?|What can I (see|do|visit) in {city}?|(What is|How is) the weather (like |)in {city}( today|)?|(What is|What's) the population of {city}?|What time is it in {city}?|How far is it from {city} to {city2}?|(Who is|What is the name of) the mayor of {city}?|(Tell me|What do you know) about {city}.|Is {city} (nice|big|far away|beautiful)?|(How|Where) do I get to {city}?|What is {city} famous for?",
    "Who (wrote|invented|discovered|painted|built|founded|composed|won|killed|directed) (the {w}|{w}|Hamlet|the telephone|the {a} {w}|America|gravity|penicillin|Faust|the Mona Lisa|the world cup|the radio|the internet|electricity|Python|Linux|the light bulb|the piano|the {w} prize|Star Wars|Harry Potter|the pyramids)?|Who (is|was) (the president of {country}|the king of {country}|the first {job}|{name} {w}|the best {job}|the queen of {country}|the richest man|Einstein|Napoleon|Mozart|Shakespeare|Newton|Caesar|Gandhi|Picasso|Columbus|{name}|the prime minister of {country}|the boss of {name})?",
    "(When|In which year) (did|was|were) (the {w} (start|end|invented|built|born)|World War {d}( start| end|)|the {w}s|{country} founded|the {w} invented|the moon landing|{name} born|the Titanic sunk|the Berlin wall built|Rome founded|the last ice age|the French revolution)?|When is (Easter|Christmas|the next {w}|the next election|the next full moon|Mother's Day|the {w} day)( this year|)?",
    "Why (is|are|do|does|can) (the sky blue|{w}s {a}|{w}s {v}|the {w} {a}|water wet|the sea salty|we dream|cats purr|dogs bark|birds fly|the moon shine|it rain|leaves fall|people {v}|the grass green|{w} {a}|there war|onions make us cry|we sleep|a {w} {v})?|How (does|do|can|is|are) (a {w} {v}|{w}s {v}|a {w} made|an engine work|the internet work|planes fly|a {w} work|magnets work|a computer work|the heart work|gravity work|bees make honey|{w}s made|glass made|fish breathe|the {w} {v})?",
    "What is (a|an|the) {w}( made of| for| good for|)?|What is {w}( made of| for|)?|What (is|are) (the meaning of life|quantum physics|photosynthesis|gravity|a black hole|inflation|democracy|DNA|an atom|love|time|happiness|the speed of light|the stock market|philosophy|relativity|evolution|a neural network|machine learning|blockchain|a verb|{w}s|the {a} {w}|the boiling point of {w})?|What does {w} mean?|Define {w}.|Explain (the |){w}( to me|).|(Tell me|What do you know) about {w}s.|What (does|do) (a {w}|{w}s) (eat|cost|weigh|look like|do|need|mean)?|What (colour|color) is (a|the) {w}?",
    "How (tall|high|old|long|deep|far|big|heavy|fast|hot|expensive|wide|strong|rich) is (the {w}|a {w}|the moon|the sun|Mount Everest|the Eiffel Tower|the Nile|{name}|{city}|{country}|the {a} {w}|the Earth|the universe|the sea|an elephant|light)?|How (many|much) ({w}s are there|does a {w} (cost|weigh|eat)|bones does a {w} have|legs does a {w} have|days are in a year|countries are there|{w}s are in a {w2}|planets are there|people live on Earth|stars are there|{w} do I need|does {w} cost|seconds are in a day|money do I need for a {w})?",
    "(What is|What's|Tell me|Give me|Any|What are) (the |)(news|latest news|news today|headlines)( today| please|)?|(What|Which) (day|date|year|month|time) is (it|today)( today| now|)?|(What is|What's) the (date|time|weather|temperature|day)( today| now| tomorrow| like today|)?|(Will|Is|Does) it (rain|snow|raining|sunny|cold outside|warm outside|going to rain)( today| tomorrow| now|)?|What (is on|comes on) TV (tonight|today)?|Who won (the game|the match|the election|yesterday|the race|last night|the cup)?|(What is|How is) the (traffic|stock market|score|price of gold|bitcoin price|exchange rate)( today| now|)?|What happened (today|yesterday|in {country}|in {city})?",
    "(Where|Which place) (is|are|can I|do I|should I) (the next {w}|the {w}|find a {w}|buy a {w}|buy {w}s|the nearest {w}|the best {w}s|eat well|the north pole|go on holiday|the {w} museum)?|(Should|Can|Must|May) I (buy|eat|sell|see|visit|learn|drink|take|keep|study) (a|the|this|more|some) {w}( today| now|)?|Which (film|book|{w}|phone|car|laptop|song|game) (should|can|do) I (buy|read|watch|choose|see|take|get|play)?|(Can you |)(recommend|suggest) (me |)a (good |)(film|book|{w}|restaurant|song|hotel|game|recipe)( to me| for tonight| in {city}|)(.|?|)|What is the best (film|book|{w}|phone|way to {v}|car|song|city|team|food|computer|job)( ever| in the world| of all|)?|Who (will|is going to) win (the election|the game|the world cup|the war)?|What (will happen|comes) (tomorrow|next year|in the future)?|What are the (lottery numbers|winning numbers|rules of {w}|planets|symptoms of {w}|parts of a {w}|names of the {w}s)?",
]

_TOO_MUCH_PATTERNS = [
    "(Write|Compose|Make|Can you write|Please write|Could you write|Create|I need|Draft|Give me) (me |)(a|an|another|a short|a long|a funny|a nice) (poem|story|essay|song|letter|email|novel|speech|text|report|book|article|haiku|play|summary|review|fairy tale|blog post|cover letter|recipe|rap)( about {w}s| about a {w}| for {name}| on {w}s| about the {w}| in the style of {name}| about {a} {w}s|)(.|?|)",
    "(Write|Make|Create|Can you write|Show me|Give me|Generate|I need|Code|Program) (me |)(a|some|the) (program|function|script|code|class|website|app|game|regex|SQL query|shell script|Python code|Go code|web page|Python program|algorithm)( in Python| in Go| in C| in JavaScript| in Java| in Rust| that {v}s {w}s| for a {w}| to {v} {w}s| for {w}s|)(.|?|)|(Debug|Fix|Explain|Check|Refactor|Improve|Review) (this|my|the) (code|program|function|bug|script|error)(.|: {w}|)",
    "(Translate|Can you translate|Please translate) (this|{w}|{w} {w}|the word {w}|my text|it|hello|good morning|I love you) (into|to) {language}(.|?|)|(What is|What's|How do you say) {w} in {language}?|(Summarize|Summarise|Correct|Rewrite|Shorten|Improve|Proofread) (this|my|the) (text|article|essay|letter|page|book|sentence|email|paragraph)(.|: {w} {w} {w}|)",
    "(Plan|Organize|Organise|Help me plan|Prepare) (a|my|our) (trip|holiday|party|wedding|week|birthday|day|garden|meal|diet|tour)( to {country}| in {city}| for {name}| to {city}|)(.|)|(Draw|Paint|Design|Show|Sketch) (me |)(a|an|the) ({w}|picture|logo|map|{a} {w}|picture of a {w}|house|photo of {name})(.|)|(Teach|Help) me (to learn |learn |)({language}|chess|maths|physics|to code|programming|history|to cook|how to {v}|the {instrument})(.|)|(Solve|Help me with|Do|Can you do) (my |this |)(homework|equation|physics problem|crossword|sudoku|riddle|puzzle|integral|derivative)( for me|)(.|?|)|(Prove|Show) that ({w}s {v}|there are infinitely many primes|{d} is prime|the {w} is {a})(.|)|(Play|Let's play) (chess|{sport}|cards|poker|go) with me(.|)|(Compare|Analyse|Analyze|Discuss) {w} and {w2}(.|)",
]

_SUMS_PATTERN = "(What is|What's|Calculate|Compute|How much is|Work out|) {m}( * | x | times | / | divided by | multiplied by |*|/){n}(?|)|(Multiply|Divide) {m} (by|with) {n}(.|)|(What is|What's|Calculate|Compute) (the square root of {m}|{m} squared|{d} percent of {m}|the square of {m}|half of {m}|{m} to the power of {d}|the double of {m}|{m} percent of {n}|the factorial of {d}|{m} modulo {n}|the average of {m} and {n}|the product of {m} and {n}|the cube of {d}|a third of {m})?|(Is|Check if) {m} (a prime number|prime|divisible by {d}|a square)?|sqrt({m})|{m}^{d}".replace("sqrt({m})", "square root of {m}")

_FOREIGN = [
    "Hallo, wie geht es dir?", "Guten Tag", "Guten Morgen", "Wie heißt du?", "Was kannst du?", "Sprichst du Deutsch?", "Ich verstehe kein Englisch.", "Wer bist du?", "Was ist das?", "Wie spät ist es?", "Danke schön", "Auf Wiedersehen", "Kannst du mir helfen?", "Wo wohnst du?", "Mein Hund heißt Rex.", "Was ist die Hauptstadt von Frankreich?", "Wie alt bist du?", "Bitte hilf mir.",
    "Bonjour, comment ça va?", "Bonjour", "Salut", "Qui es-tu?", "Comment tu t'appelles?", "Parlez-vous français?", "Quelle heure est-il?", "Merci beaucoup", "Au revoir", "Où habites-tu?", "Je ne comprends pas.", "Que peux-tu faire?", "Mon chat s'appelle Milo.", "Quel temps fait-il?", "Aide-moi, s'il te plaît.",
    "Hola, ¿cómo estás?", "Buenos días", "¿Quién eres?", "¿Cómo te llamas?", "¿Hablas español?", "¿Qué hora es?", "Muchas gracias", "Adiós", "No entiendo.", "¿Qué puedes hacer?", "Mi perro se llama Rex.", "¿Dónde vives?", "Ayúdame, por favor.",
    "Ciao, come stai?", "Buongiorno", "Chi sei?", "Come ti chiami?", "Parli italiano?", "Che ore sono?", "Grazie mille", "Arrivederci", "Non capisco.", "Cosa sai fare?", "Dove abiti?",
    "Olá, tudo bem?", "Bom dia", "Quem é você?", "Obrigado", "Hej, hur mår du?", "Tack så mycket", "Vem är du?", "Hoi, hoe gaat het?", "Goedemorgen", "Wie ben jij?", "Dank je wel", "Cześć, jak się masz?", "Dzień dobry", "Kim jesteś?", "Привет, как дела?", "Кто ты?", "Спасибо", "Merhaba, nasılsın?", "Sen kimsin?", "你好", "你是谁?", "谢谢", "你会做什么?", "こんにちは", "あなたは誰ですか?", "ありがとう", "안녕하세요", "누구세요?", "مرحبا", "नमस्ते", "Γεια σου", "Xin chào", "Salve, quis es?",
]


def text_ok(split, user: str) -> bool:
    """Free-text questions are held out by their normalised wording; the shortest wordings are always trained."""
    n = normal(user)
    if split.name == "train":
        return len(n) < 14 or split.ok("text", n)
    return len(n) >= 14 and split.ok("text", n)


def _common_slots(rng, split) -> dict:
    return {
        "country": split.pick(rng, W.COUNTRIES), "city": split.name_(rng, W.CITIES), "city2": split.name_(rng, W.CITIES),
        "w": split.pick(rng, W.WORDS), "w2": split.pick(rng, W.WORDS), "a": split.pick(rng, W.ADJECTIVES), "v": split.pick(rng, W.VERBS),
        "job": split.pick(rng, W.JOBS), "name": split.name_(rng), "language": rng.choice(W.LANGUAGES), "sport": rng.choice(W.SPORTS),
        "instrument": rng.choice(W.INSTRUMENTS), "d": str(rng.randint(2, 12)), "m": str(rng.randint(2, 999)), "n": str(rng.randint(2, 99)),
    }


def smalltalk(rng, split) -> Turn:
    while True:
        r = rng.random()
        if r < 0.72:
            patterns, think, answer = rng.choice(_SMALLTALK)
            user = say(rng, patterns, dressed=rng.random() < 0.25)
            if rng.random() < 0.6:
                user = user[:1].upper() + user[1:]
        elif r < 0.8:
            user = fill(say(rng, _FEELINGS), _common_slots(rng, split))
            think, answer = "The user asks for my feelings.", NO_FEELINGS
        elif r < 0.88:
            plural, single, items = rng.choice(_NAME_LISTS)
            n = rng.randint(1, 4)
            counts = ["a", "two", "three", "four"] if rng.random() < 0.7 else ["one", "2", "3", "4"]
            user = say(rng, "(Name|Give me|Tell me|List|Say|Write) {n} {what}( please|)(.|)|Can you (name|give me|list) {n} {what}?|I need {n} {what}.", n=("an" if single[0] in "ai" and n == 1 and counts[0] == "a" else counts[n - 1]), what=single if n == 1 else plural)
            think, answer = f"{counts[n - 1]} {single if n == 1 else plural}", ", ".join(items[:n])
        else:
            words = " ".join(split.word(rng, "echo", 2, 9) if rng.random() < 0.3 else split.pick(rng, W.WORDS) for _ in range(rng.randint(1, 6)))
            if not split.ok("echo", words):
                continue
            user = say(rng, "(Repeat|Say|Repeat after me|Echo|Please repeat|Say after me|Copy this|Write|Please say|Repeat this|Repeat these words)(: | |: ){echo}|(Say|Write|Repeat) (the words|this|exactly this): {echo}|Can you say {echo}?", echo=words)
            return Turn("smalltalk", user, "I repeat it.", words)
        if text_ok(split, user):
            return Turn("smalltalk", user, think, answer)


def about(rng, split) -> Turn:
    while True:
        patterns, think, answer = _ABOUT[int(rng.random() * len(_ABOUT))] if rng.random() < 0.8 else _ABOUT[rng.choice([0, 1, 3, 4, 4])]
        user = say(rng, patterns)
        if rng.random() < 0.5:
            user = user[:1].upper() + user[1:]
        if text_ok(split, user):
            return Turn("about", user, think, answer)


_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _gibberish(rng, split) -> str:
    r = rng.random()
    if r < 0.25:
        return " ".join("".join(rng.choice(_LETTERS) for _ in range(rng.randint(3, 9))) for _ in range(rng.randint(1, 4)))
    if r < 0.5:
        return " ".join(W.pseudo_word(rng, rng.randint(1, 3)) for _ in range(rng.randint(1, 5))) + rng.choice(["", "", "?", ".", "!"])
    if r < 0.75:
        return " ".join(split.pick(rng, W.WORDS) for _ in range(rng.randint(1, 5))) + rng.choice(["", "", "?", ".", "!"])
    if r < 0.85:
        return "".join(rng.choice("!?.,;:-_#+*()/&%$0123456789") for _ in range(rng.randint(1, 8)))
    if r < 0.95:
        return str(rng.randint(0, 99999))
    return "".join(rng.choice("asdfghjkl") for _ in range(rng.randint(4, 14)))


def unknown(rng, split) -> Turn:
    while True:
        r = rng.random()
        slots = _common_slots(rng, split)
        if r < 0.58:
            user = fill(say(rng, rng.choice(_UNKNOWN_PATTERNS)), slots)
            think, answer = "I do not know this.", UNKNOWN
        elif r < 0.74:
            user = fill(say(rng, rng.choice(_TOO_MUCH_PATTERNS)), slots)
            think, answer = "This is too much for me.", TOO_MUCH
        elif r < 0.84:
            user = fill(say(rng, _SUMS_PATTERN, dressed=rng.random() < 0.5), slots).strip()
            think, answer = "This is not adding or subtracting.", ONLY_SUMS
        elif r < 0.95:
            user = _gibberish(rng, split)
            think, answer = "This makes no sense to me.", NOT_UNDERSTOOD
        else:
            user = noisy(rng, rng.choice(_FOREIGN)) if rng.random() < 0.5 else rng.choice(_FOREIGN)
            if split.name == "eval":
                continue
            think, answer = "This is not English.", ENGLISH_ONLY
        if user and (answer == ENGLISH_ONLY or text_ok(split, user)):
            return Turn("unknown", user, think, answer)


# --- personas -------------------------------------------------------------------------------------------------------

_ROLES = W._list("assistant teacher guide librarian chef pirate robot wizard knight gardener doctor coach butler captain poet tutor secretary waiter painter astronaut detective farmer nurse baker musician historian")
_TRAITS = W._list("helpful friendly kind cheerful polite patient clever funny calm brave wise careful serious gentle curious tiny")
_COMPANIES = ["Acme", "Blue Sky Travel", "Green Garden", "North Bank", "City Library", "Happy Pets", "Sun Energy", "Red Bicycle Shop", "Star Hotel", "Ocean Museum", "Moon Bakery", "River School", "Silver Airline", "Golden Spoon", "Hill Hospital", "Forest Zoo"]
_SHOP = [("opens", "open"), ("closes", "close"), ("starts", "start"), ("ends", "end")]
_VENUES = W._list("shop office museum library school restaurant bakery bank market cinema theatre zoo pool gym clinic station")


@dataclass
class Persona:
    system: str
    turns: list  # functions (rng) -> Turn
    prefix: str = ""
    suffix: str = ""

    def decorate(self, answer: str) -> str:
        return self.prefix + answer + self.suffix


def _article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def persona(rng, split) -> Persona:
    """A system prompt with a name, perhaps a role, a company, a fact, a way to begin or end every answer."""
    while True:
        name, role, trait = split.name_(rng), rng.choice(_ROLES), rng.choice(_TRAITS)
        company = rng.choice(_COMPANIES) if rng.random() < 0.75 else split.name_(rng)
        if split.ok("persona", name, role, trait):
            break
    what = f"{_article(trait)} {role}" if rng.random() < 0.6 else _article(role)
    with_role, with_company, with_colour, with_fact = rng.random() < 0.8, rng.random() < 0.35, rng.random() < 0.25, rng.random() < 0.35
    lines = []
    if with_role:
        lines.append(fill(expand(rng, "You are {n}, {w}.|Your name is {n}. You are {w}.|You are {n} and you are {w}.|Your name is {n} and you are {w}.|You are {w} called {n}.|You are {w}. Your name is {n}.|Act as {n}, {w}.|You are {w} named {n}."), {"n": name, "w": what}))
        who = f"I am {name}, {what}."
    else:
        lines.append(fill(expand(rng, "You are {n}.|Your name is {n}.|You are called {n}.|Act as {n}."), {"n": name}))
        who = f"I am {name}."
    turns = [
        lambda r: Turn("persona", say(r, "(What is|What's|Tell me) your name?|What are you called?|(What|How) (should|can|may) I call you?|Your name?|Do you have a name?|May I know your name?"), f"The system prompt says {name}.", f"My name is {name}."),
        lambda r: Turn("persona", say(r, "Who are you?|(Introduce yourself|Tell me about yourself).|What are you?|Who am I talking to?|Who is this?|Please introduce yourself."), f"The system prompt says {name}.", who),
        lambda r: Turn("persona", say(r, "(Hello|Hi|Hey|Hello there|Good day|Hi there)(!|.|)|(Hello|Hi), (who|what) is there?".replace("|(Hello|Hi), (who|what) is there?", ""), dressed=False), "A greeting.", f"Hello! I am {name}. How can I help you?"),
    ]
    if with_role:
        turns.append(lambda r: Turn("persona", say(r, "What is your (job|role|task|profession)?|What do you do( here| for a living|)?|What's your (job|role)?"), f"The system prompt says {what}.", f"I am {what}."))
    if with_company:
        lines.append(fill(expand(rng, "You work for {c}.|You belong to {c}.|You help the customers of {c}.|You were made by {c}."), {"c": company}))
        made = lines[-1].startswith("You were made")
        ask = "(Who|Which company) (made|created|built|developed) you?|Who is your (maker|creator)?" if made else "(Who|Which company) do you work for?|Where do you work?|What company (are you from|do you work for)?"
        turns.append(lambda r: Turn("persona", say(r, ask), f"The system prompt says {company}.", f"I was made by {company}." if made else f"I work for {company}."))
    if with_colour:
        thing, pool = rng.choice([("colour", W.COLOURS), ("food", W.FOODS), ("animal", W.ANIMALS), ("drink", W.DRINKS), ("sport", W.SPORTS), ("season", W.SEASONS)])
        v = split.pick(rng, pool)
        lines.append(fill(expand(rng, "Your favourite {t} is {v}.|You like the {t} {v} best."), {"t": thing, "v": v}))
        turns.append(lambda r: Turn("persona", say(r, "(What is|What's|Tell me) your favo(u|)rite {t}?|Which {t} do you like (best|most)?", t=thing), f"The system prompt says {v}.", f"My favourite {thing} is {v}."))
    if with_fact:
        venue, (verb, base), hour = rng.choice(_VENUES), rng.choice(_SHOP), rng.randint(1, 12)
        lines.append(f"The {venue} {verb} at {hour}.")
        turns.append(lambda r: Turn("persona", say(r, "(When|What time|At what time) does the {venue} {base}?|Do you know when the {venue} {verb}?", venue=venue, base=base, verb=verb), f"The system prompt says {hour}.", f"The {venue} {verb} at {hour}."))
    p = Persona("", turns)
    r = rng.random()
    if r < 0.1:
        word = rng.choice(["Arr!", "Over.", "Have a nice day!", "Beep.", "Thank you.", split.name_(rng) + ".", "Yours truly.", "Yes!", "Done.", "Ahoy!", split.pick(rng, W.WORDS).capitalize() + "!"])
        lines.append(fill(expand(rng, 'End every answer with "{x}"|Always end your answers with "{x}"|Finish each answer with "{x}"'), {"x": word}))
        p.suffix = " " + word
    elif r < 0.2:
        word = rng.choice(["Captain:", "Sir,", "Dear user,", "Well,", name + ":", "Answer:", "My friend,", "Madam,", split.pick(rng, W.WORDS).capitalize() + ":"])
        lines.append(fill(expand(rng, 'Start every answer with "{x}"|Always begin your answers with "{x}"|Begin each answer with "{x}"'), {"x": word}))
        p.prefix = word + " "
    if rng.random() < 0.25:
        lines.append(rng.choice(["Be polite.", "Answer briefly.", "Be kind to the user.", "Keep your answers short.", "You help people.", "Always tell the truth.", "Answer in English."]))
    p.system = " ".join(lines)
    return p


_NEUTRAL = ["You are a helpful assistant.", "You are a helpful assistant", "You are a friendly assistant.", "Answer briefly.", "Be helpful.", "You are an AI assistant.", "Help the user.", "Be polite and short.", "You are a chat bot.", "Keep your answers short.", "You are a helpful, harmless assistant.", "Please help the user with small tasks.", "Answer the user's questions.", "You are helpful."]


def neutral_system(rng) -> str:
    """A system prompt that changes nothing."""
    return rng.choice(_NEUTRAL)
