"""Renders the templates below with Python's jinja2 in Hugging Face's settings and writes jinja2_cases.json.

The Go tests hold package jinja to these results, errors included. Run: python3 make_cases.py (needs jinja2 3.1).
"""
import json
import os

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception

CTX = {
    "s": "Hello, Wörld", "empty": "", "n": 7, "f": 2.0, "big": 123456789012345678901234567890, "t": True, "no": False, "nil": None,
    "l": [3, 1, 2], "words": ["b", "A", "c", "a"], "d": {"b": 1, "a": [1, 2.0, None, True, "é<>&'\""], "items": "key"},
    "msgs": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": None, "n": 1}, {"role": "user", "content": "yo", "n": 3}],
    "text": "  one two\n three\n\nfour  ", "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}],
}

T = []
# White space control.
T += [
    "a\n", "a\n\n", "\n", "a\r\nb\rc", "{% if t %}\n x\n{% endif %}\ny", "  {% if t %}\n  x\n  {% endif %}\n  y", " {{ n }} \n {{- n -}} \n z",
    "a {%- if t %} b {%- endif %} c", "a {%- if t -%} b {%- endif -%} c", "a\n  {%+ if t %}\nb\n  {%- endif +%}\nc", "{# c #}\nx {# c #} y\n  {# d #}\nz",
    "a {#- c -#} b", "{% raw %}{{ x }} {% if %}{% endraw %}|", "a\n  {% raw %}\n  x\n  {% endraw %}\nb", "a {%- raw -%}  x  {%- endraw -%} b",
    "{{ n }}\n{{ n }}\n", "x{% set a = 1 %}\n\n{{ a }}", "{%- for i in l %}\n  {{ i }}\n{%- endfor %}", "a\n{#- x #}\nb", "{{ '{{' }}{{ '%}' }}", "{ {{ n }} }", "{", "a{",
    "\t {% if t %}x{% endif %} \t\n", "a  {% if t %}x{% endif %}  b", "{{n}}{%if t%}y{%endif%}", "  {{ n }}\n  {%- set x = 1 -%}\n  b",
]
# Expressions.
T += ["{{ %s }}" % e for e in [
    "n", "f", "big", "t", "no", "nil", "s", "l", "d", "missing", "words", "1.5", "1e3", "1e16", "1e-5", "1.0e100", "123456789.123", "0x1F", "1_000", "'a' 'b'",
    r"'\n\t\\\'\"\x41\u00e9\U0001F600\101\q'", r'"\'"', "\"it's\"", "['a\\nb', \"it's\", 'q\"', '\\x00', 'é']", "(1,)", "(1, 2)", "()", "1, 2", "[]", "{}", "{'a': 1, 2: 'b', none: 3}",
    "1 + 2 * 3", "(1 + 2) * 3", "2 ** 3 ** 2", "-2 ** 2", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7 % -3", "7 / 2", "6 / 2", "7.5 // 2", "-7.5 % 2", "1 - 2 - 3", "2 * 'ab'", "'ab' * 2", "[1] * 3", "'a' ~ 1 ~ none ~ 2.0 ~ missing",
    "'a' + 'b'", "[1] + [2]", "(1,) + (2,)", "1 + 1.0", "true + 1", "-n", "+n", "- - n", "not t", "not not t", "n == 7", "n == 7.0", "n != 7", "1 < 2 < 3", "1 < 3 < 2", "'a' < 'b'", "[1, 2] < [1, 3]", "1 == true", "'1' == 1", "none == none", "missing == missing2", "nil == missing",
    "'ell' in s", "2 in l", "9 not in l", "'b' in d", "1 in missing", "t and no or n", "no or empty or 'x'", "t and 0", "1 if t", "1 if no", "1 if no else 2", "1 if no else 2 if no else 3", "n is odd and n is not even", "not n is odd", "1 + n is odd", "-1|abs", "(-1)|abs", "1|string ~ 'x'", "'a' if 'b' in 'abc' else 'c'",
    "l[0]", "l[-1]", "l[5]", "l['x']", "l[1:]", "l[:-1]", "l[::-1]", "l[::2]", "l[5:]", "l[-2:]", "l[2:0:-1]", "s[0]", "s[-1]", "s[7:9]", "s[::-1]", "s[100]", "d.a", "d['a']", "d.missing", "d['items']", "d.a[0]", "d.a.0", "d.get('b')", "d.get('z')", "d.get('z', 5)", "d.keys()|list", "d.values()|list", "d.items()|list", "msgs[0].role", "msgs[0]['role']", "msgs[9]", "n.real2", "s.foo", "l.foo",
    "range(3)|list", "range(1, 4)|list", "range(5, 0, -2)|list", "range(0)|list", "dict(a=1, b=2)", "dict(d, z=1)|length", "namespace(a=1).a", "[1, [2, {'a': (1, 2)}]]", "1 < 2 and 2 < 3", "{'a': {'b': 1}}.a.b", "'%s-%d-%%' % ('a', 3)", "'%s' % 5", "'%.2f' % 1.005", "[none, true]", "'a,b'.split(',')[1]", "f * 3", "10 / 4", "0.1 + 0.2", "1e22", "1e15", "123456789012345680.0", "1.0 // 0.3", "5 // 1.0", "2 ** -1", "2 ** 0.5", "0 ** 0",
    "true and 'x'", "'x' is string", "l is sequence", "d is mapping", "s is iterable", "n is number", "t is number", "t is integer", "f is float", "nil is none", "missing is defined", "n is defined", "missing is undefined", "t is true", "no is false", "n is divisibleby 7", "n is divisibleby(2)", "n is eq 7", "n is gt 3", "n is in [7]", "'ABC' is upper", "'abc' is lower", "n is sameas 7", "1 is sameas true", "range is callable", "s is mapping", "t is boolean", "n is not string", "missing is none", "missing is string", "l is string", "missing is iterable", "n is iterable", "d is sequence", "(1,) is sequence", "'' is sequence",
]]
# Filters and methods.
T += ["{{ %s }}" % e for e in [
    "s|upper", "s|lower", "s|length", "l|length", "d|length", "missing|length", "s|title", "'hello-big (world) it\\'s'|title", "'hELLO wORLD'|capitalize", "text|trim", "'xxaxx'|trim('x')", "l|join('-')", "l|join", "msgs|join(', ', attribute='role')", "l|first", "l|last", "[]|first", "s|first", "l|sum", "msgs|sum(attribute='n')", "l|max", "l|min", "words|max", "words|sort", "words|sort(case_sensitive=true)", "l|sort(reverse=true)", "msgs|sort(attribute='n')|map(attribute='n')|list", "words|unique|list", "l|reverse|list", "s|reverse", "s|replace('l', 'L')", "s|replace('l', 'L', 1)", "missing|default('x')", "''|default('x')", "''|default('x', true)", "missing|d", "nil|default('x')", "nil|default('x', true)",
    "d|tojson", "d|tojson(indent=2)", "d|tojson(sort_keys=true)", "d|tojson(ensure_ascii=true)", "d|tojson(separators=(',', ':'))", "[]|tojson(indent=2)", "{}|tojson(indent=4)", "[[], {}, [1]]|tojson(indent=1)", "'é\\x01\\x7f\\n'|tojson", "'😀é'|tojson(ensure_ascii=true)", "f|tojson", "big|tojson", "nil|tojson", "{1: 2, true: 3, none: 4, 1.5: 6}|tojson", "(1, 2)|tojson", "1e16|tojson", "1e-7|tojson", "100000.0|tojson",
    "'42'|int", "'4.7'|int", "'x'|int", "'x'|int(5)", "4.7|int", "'ff'|int(base=16)", "'1.5'|float", "'x'|float", "3|float", "2.5|round", "3.5|round", "1.005|round(2)", "2.675|round(2)", "7|round", "1.1|round(method='ceil')", "1.9|round(method='floor')", "-3|abs", "-3.5|abs", "n|string", "nil|string", "l|string", "d|list", "s|list", "'<a&\"b\\'>'|e", "'<a>'|escape", "'x'|safe", "d|dictsort", "d|dictsort(reverse=true)", "{'b': 2, 'A': 1}|dictsort", "d|items|list", "l|batch(2)|list", "l|batch(2, 0)|list", "'a b  c'|wordcount", "'%s %s'|format('a', 1)",
    "l|map('string')|join(',')", "words|map('upper')|list", "words|map('replace', 'a', 'x')|list", "msgs|map(attribute='role')|list", "msgs|map(attribute='zzz', default='?')|list", "l|select('odd')|list", "l|select|list", "l|reject('odd')|list", "l|select('gt', 1)|list", "msgs|selectattr('role', 'equalto', 'user')|map(attribute='content')|list", "msgs|selectattr('content')|list|length", "msgs|rejectattr('role', 'eq', 'user')|list|length", "msgs|selectattr('role', 'in', ['user'])|list|length", "msgs|selectattr('zzz', 'defined')|list|length", "msgs|selectattr('zzz', 'undefined')|list|length",
    "text|indent", "text|indent(2)", "text|indent(2, true)", "text|indent(2, blank=true)", "text|indent('>')", "''|indent(2, true)",
    "text.strip()", "text.lstrip()", "text.rstrip()", "'xxaxx'.strip('x')", "'abcba'.lstrip('ab')", "'abcba'.rstrip('ab')", "text.split()", "text.split(' ')", "text.split('\\n')", "'a,b,c'.split(',', 1)", "'a,b,c'.rsplit(',', 1)", "' a  b c '.split(none, 1)", "' a  b c '.rsplit(none, 1)", "text.splitlines()", "'a\\nb\\n'.splitlines(true)", "s.startswith('He')", "s.startswith(('x', 'H'))", "s.endswith('ld')", "s.endswith('x')", "s.upper()", "s.lower()", "s.title()", "'hELLO'.capitalize()", "\"they're bill's\".title()", "s.replace('l', '')", "s.replace('l', 'L', 1)", "s.count('l')", "s.find('l')", "s.find('zz')", "s.rfind('l')", "s.find('l', 4)", "s.find('ö')", "s.index('W')", "'-'.join(words)", "'a=b=c'.partition('=')", "'a=b=c'.rpartition('=')", "'abc'.partition('z')", "'abc'.rpartition('z')", "'12'.isdigit()", "'1a'.isdigit()", "'ab'.isalpha()", "'a1'.isalnum()", "' '.isspace()", "''.isspace()", "'AB'.isupper()", "'ab'.islower()", "'7'.zfill(3)", "'-7'.zfill(4)", "'a'.ljust(3) ~ '|'", "'a'.rjust(3, '.')", "'ab'.center(5, '*')", "'abc'.center(6, '*')", "'a'.center(4,'*')", "'{} {}'.format(1, 'x')", "'{1}{0}{{}}'.format('a', 'b')", "'{a}'.format(a=1)", "'preFix'.removeprefix('pre')", "'preFix'.removesuffix('Fix')", "l.index(1)", "l.count(3)", "'abc'.startswith('b', 1)", "'\\x1c a\\x85'.strip()", "text|trim|length", "'aXbX'.split('X')", "''.split(',')", "''.split()",
]]
# Statements.
T += [
    "{% for i in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }} {% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}", "{% for i in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1,1,2] %}{{ loop.changed(i) }} {% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in 'aé' %}{{ c }}.{% endfor %}", "{% for i in [] %}x{% else %}none{% endfor %}", "{% for i in missing %}x{% else %}none{% endfor %}",
    "{% for i in l if i > 1 %}{{ i }}{{ loop.length }}{% else %}e{% endfor %}", "{% for i in l if i > 9 %}x{% else %}e{% endfor %}", "{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for n in tree recursive %}{{ n.v }}{{ loop.depth }}[{{ loop(n.c) }}]{% endfor %}", "{% for a in l %}{% for b in l %}{{ loop.index }}{% endfor %}{{ loop.index }} {% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for i in 1, 2 %}{{ i }}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% if t %}{% set y = 5 %}{% endif %}{{ y }}", "{% set a, b = 1, 2 %}{{ b }}{{ a }}", "{% set x %}a{{ n }}b{% endset %}{{ x }}", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x = 1, 2 %}{{ x }}", "{% set x = 'a' if no else 'b' %}{{ x }}",
    "{% if no %}a{% elif t %}b{% else %}c{% endif %}", "{% if no %}a{% elif no %}b{% else %}c{% endif %}", "{% if no %}a{% endif %}z", "{% if l and d %}x{% endif %}", "{% if 0.0 %}x{% else %}y{% endif %}", "{% if '' or [] or {} or none %}x{% else %}y{% endif %}",
    "{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(1, 2, 3) }}{{ m() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in {{ n }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a + b }}{% endcall %}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(3) }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}", "{% with x = 1, y = 2 %}{{ x + y }}{% endwith %}{{ x }}", "{% set j = joiner('; ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% for i in l %}{% set v = i %}{% endfor %}{{ v }}", "{% for i in [1,2] %}{{ q }}{% set q = i %}{% endfor %}", "{% for m in msgs[::-1] %}{{ m.role[0] }}{{ loop.index0 }}{% endfor %}", "{{ msgs[1:]|length }}{{ msgs|length - 1 }}", "{% for m in msgs %}{{ m.content is string }}{{ m.content is none }}{{ m.zzz is defined }}{% endfor %}",
    "{% set content = 'a</think>b' %}{{ content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}", "{%- for k in d|dictsort %}{{ k[0] }}{% endfor %}", "{% set x = {'a': 1} %}{{ x.a }}{{ x['a'] }}", "{% set l2 = l + [4] %}{{ l2 }}{{ l }}", "{{ range(3)|map('string')|join }}", "{% for i in range(3) %}{% for j in range(2) %}{% if j %}{% break %}{% endif %}{{ i }}{% endfor %}{% endfor %}", "{% set ns = namespace() %}{% set ns.a = [] %}{% set ns.a = ns.a + [1] %}{{ ns.a }}", "{% set ns = namespace(d) %}{{ ns.b }}", "{{ loop }}", "{% set x %}{% for i in l %}{{ i }}{% endfor %}{% endset %}{{ x|length }}", "{% if t %}a{% if no %}b{% else %}c{% endif %}{% endif %}", "{{ (msgs|last).role }}", "{{ {'a': 1, 'b': 2}|length }}", "{{ 'a' 'b' ~ 'c' }}", "{{ 5 is divisibleby 5 and 4 is even }}",
]
# Errors.
T += [
    "{{ missing.x }}", "{{ missing[0] }}", "{{ msgs[9].role }}", "{{ d.zz.y }}", "{{ missing() }}", "{{ missing + 1 }}", "{{ 'a' + 1 }}", "{{ 1 + 'a' }}", "{{ nil + 1 }}", "{{ nil.x.y }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ 'a' < 1 }}", "{{ missing < 1 }}", "{{ n() }}", "{{ s.foo() }}", "{{ l.append(1) }}", "{{ d.update({}) }}", "{{ d.pop('a') }}", "{{ raise_exception('no way') }}", "a\nb\n{% if t %}\n{{ raise_exception('line four') }}{% endif %}", "{{ n|nofilter }}", "{{ n is notest }}", "{% for i in n %}{% endfor %}", "{% for i in nil %}{% endfor %}", "{{ range(200000) }}", "{{ 1 in n }}", "{{ 1 in s }}", "{{ missing|tojson }}", "{{ n|length }}", "{% set d.x = 1 %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{{ l|join(attribute='a.b') }}", "{{ [1, 'a']|sort }}", "{{ [1, 'a']|max }}", "{{ '%d' % 'x' }}", "{{ 'abc'.index('z') }}", "{{ 'abc'.split('') }}", "{{ {[1]: 2} }}", "{{ -s }}", "{{ l[::0] }}", "{{ s * s }}", "{{ s - 1 }}",
    "{% if %}{% endif %}", "{% if t %}", "{% for %}{% endfor %}", "{% for i in l %}", "{% endif %}", "{% else %}", "{{ }}", "{{ n", "{% if t", "{# x", "{{ (n }}", "{{ n) }}", "{{ [1, }}", "{{ 'x }}", "{{ n n }}", "{% unknown %}", "{% set %}", "{% set x = %}", "{% set 1 = 2 %}", "{% set true = 2 %}", "{{ n.}}", "{{ n | }}", "{{ n is }}", "{{ a = 1 }}", "{% raw %}x", "{% macro %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ f(a=1, 2) }}", "{% call m() %}", "{{ n $ }}", "{{ n ! }}", "{% for i in l %}{% endif %}", "{% if t %}{% endfor %}", "{{ {1} }}", "{{ 'x' is string is string }}", "{% include 'x' %}", "{{ n if }}", "{% filter nofilter %}{% endfilter %}",
]

cases = []
for t in T:
    case = {"template": t}
    try:
        case["text"] = env.from_string(t).render(**CTX)
    except Exception as e:  # noqa: BLE001: every failure is a result here
        case["error"] = type(e).__name__ + ": " + str(e)
    cases.append(case)

out = {"made_by": "make_cases.py, jinja2 " + jinja2.__version__, "context": CTX, "cases": cases}
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jinja2_cases.json")
with open(path, "w", encoding="utf-8") as f:
    json.dump(out, f, ensure_ascii=False, indent=1)
    f.write("\n")
print(len(cases), "cases,", sum("error" in c for c in cases), "errors")
