package chat

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func renderSource(t *testing.T, source, context string) (string, error) {
	t.Helper()
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	return tmpl.RenderJSON([]byte(context))
}

// TestToJSON: as Python's json.dumps(ensure_ascii=False).
func TestToJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"z": 1, "a": 2.0, "m": [1, 2.50, -0, -0.0, 1e5, 1E-7, 1e16, 12345678901234567890, true, null, "é\n"]}`,
			`{"z": 1, "a": 2.0, "m": [1, 2.5, 0, -0.0, 100000.0, 1e-07, 1e+16, 12345678901234567890, true, null, "é\n"]}`},
		{`{"a": 1, "b": 2, "a": 3}`, `{"a": 3, "b": 2}`},
		{`"\ud83d\ude00\u00e9<>&\u2028\u007f\u0001\b\f\t\r\"\\/"`, "\"😀é<>&\u2028\u007f\\u0001\\b\\f\\t\\r\\\"\\\\/\""},
		{`[1e999, -1e999, {}, [], 123456789.125]`, `[Infinity, -Infinity, {}, [], 123456789.125]`},
	} {
		if got, err := renderSource(t, "{{ v | tojson }}", `{"v":`+c.in+`}`); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.in, got, err, c.want)
		}
	}
	for source, want := range map[string]string{
		`{{ v|tojson(indent=2) }}`:                                       "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": \"x\"\n}",
		`{{ v|tojson(2)|length }}`:                                       "42",
		`|tojson {{ '|tojson' ~ "| tojson" }}{# v|tojson #}`:             "|tojson |tojson| tojson",
		`{% raw %}{{ v|tojson }}{% for %}{% endraw %}`:                   "{{ v|tojson }}{% for %}",
		`{%- for k in v -%} {{ k }}, {% endfor %}`:                       "b, a, ",
		"{% for k in v %}\n {{ k }}\n{% endfor %}":                       " b\n a\n",
		"{% macro f(x) -%}\n <{{ x|tojson }}>{% endmacro %}{{ f(v.a) }}": `<"x">`,
		"a\r\nb\n": "a\nb",
	} {
		if got, err := renderSource(t, source, `{"v": {"b": [1, {}], "a": "x"}}`); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", source, got, err, want)
		}
	}
	for _, source := range []string{"{{ missing|tojson }}", "{{ range|tojson }}", "{{ v|tojson(sort_keys=true) }}", "{{ v|tojson(ensure_ascii=true) }}"} {
		if got, err := renderSource(t, source, `{"v": 1}`); err == nil {
			t.Errorf("%s: %q, want an error", source, got)
		}
	}
}

// TestTemplateLimits: none of these may crash, hang or eat the memory.
func TestTemplateLimits(t *testing.T) {
	for name, source := range map[string]string{
		"loops":           "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
		"macro recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
		"call recursion":  "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
		"doubling":        "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"doubling lists":  "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"doubling tojson": "{% set ns = namespace(s=['abc']) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
		"range":           "{{ range(1000000000000) }}",
		"size":            strings.Repeat(" ", 2<<20),
	} {
		begin := time.Now()
		if _, err := renderSource(t, source, "{}"); !errors.Is(err, ErrTemplateLimit) {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(begin); d > maxTemplateTime {
			t.Errorf("%s: took %v", name, d)
		}
	}
	for name, source := range map[string]string{
		"panic":    "{{ 'x' * -1 }}",
		"bounds":   "{{ v|select|list }}",
		"raises":   "{{ raise_exception('no') }}",
		"filter":   "{{ v|nosuch }}",
		"function": "{{ nosuch() }}",
		"unclosed": "{% if v %}",
		"nesting":  "{{ " + strings.Repeat("(", 100_000),
	} {
		if got, err := renderSource(t, source, `{"v": [1]}`); err == nil || strings.Contains(err.Error(), "goroutine") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, err := renderSource(t, "{{ raise_exception('no') }}", "{}")
	var raised *RaisedError
	if !errors.As(err, &raised) || raised.Message != "no" {
		t.Errorf("raise_exception gives %#v", err)
	}
	for _, bad := range []string{"", "{", `{"a"}`, `{"a": [1,]}`, `{} 2`, `{"a": nul}`, `{"a":` + strings.Repeat("[", 40_000), `{"a":1,}`, `{]`, `{1:2}`} {
		if _, err := renderSource(t, "x", bad); err == nil {
			t.Errorf("context %.20q is accepted", bad)
		}
	}
}
