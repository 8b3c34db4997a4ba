"""Generator of the tiny model's training conversations and evaluation questions.

words     word lists, names, rhyme families and the held-out split
phrases   a small grammar for paraphrases, and typing noise
render    Qwen3's chat format as (text, is-target) segments
tasks     one function a kind of question
tools     function calling: tool schemas, calls, results
facts     facts a user states and asks for later
talk      small talk, what the program is, what the model does not know, personas
mix       whole conversations out of these, as training samples or evaluation questions
"""
