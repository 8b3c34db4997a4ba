package jinja

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// vars reads the names of a rendering.
func vars(t testing.TB, data []byte) *Dict {
	t.Helper()
	v, err := ParseJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return v.(*Dict)
}

// TestJinja2 compares with what Python's jinja2 renders (testdata/make_cases.py).
func TestJinja2(t *testing.T) {
	data, err := os.ReadFile("testdata/jinja2_cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Context json.RawMessage
		Cases   []struct {
			Template string
			Text     string
			Error    *string
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	ctx := vars(t, file.Context)
	for _, c := range file.Cases {
		tmpl, err := Parse(c.Template)
		got := ""
		if err == nil {
			got, err = tmpl.Render(ctx)
		}
		switch {
		case c.Error != nil && err == nil:
			t.Errorf("%s\n  gives %q, want an error as jinja2: %s", c.Template, got, *c.Error)
		case c.Error == nil && err != nil:
			t.Errorf("%s\n  %v, want %q", c.Template, err, c.Text)
		case c.Error == nil && got != c.Text:
			t.Errorf("%s\n   got %q\n  want %q", c.Template, got, c.Text)
		case err != nil:
			var at *Error
			if !errors.As(err, &at) || at.Line < 1 {
				t.Errorf("%s\n  error without a line: %v", c.Template, err)
			}
			if strings.Contains(err.Error(), "internal error") {
				t.Errorf("%s\n  %v", c.Template, err)
			}
		}
	}
}

func render(t testing.TB, source, ctx string) (string, error) {
	t.Helper()
	tmpl, err := Parse(source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(vars(t, []byte(ctx)))
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ source, want string }{
		{"a\nb\n{{ raise_exception('no system role') }}", "line 3: the template refuses: no system role"},
		{"{{ a }}\n{{ a.b }}", "line 2: 'a' is undefined"},
		{"{% if x %}\n\n{{ 'a' + 1 }}{% endif %}\n", "line 3: can only concatenate str"},
		{"{% for m in x %}\n{{ m.y.z }}{% endfor %}", "line 2: 'dict object' has no attribute 'y'"},
		{"\n{{ x|nosuch }}", "line 2: unknown filter 'nosuch'"},
		{"{{ x[7].role }}", "line 1: list object has no element 7"},
		{"{% if x %}\n", "line 1: no {% endif %} before the end"},
		{"\n{% include 'x' %}", "line 2: {% include %} is not supported"},
		{"{{ x.append(1) }}", "a template cannot change values"},
	} {
		_, err := render(t, c.source, `{"x": [{"role": "user"}]}`)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.source, err, c.want)
		}
	}
	_, err := render(t, "{{ raise_exception('x') }}", "{}")
	var raised *RaisedError
	if !errors.As(err, &raised) || raised.Message != "x" {
		t.Errorf("raise_exception gives %#v", err)
	}
}

// TestLimits: none of these may crash, hang or eat the memory.
func TestLimits(t *testing.T) {
	deep := func(open, close string, n int) string {
		return strings.Repeat(open, n) + "1" + strings.Repeat(close, n)
	}
	for name, source := range map[string]string{
		"loops":            "{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
		"macro recursion":  "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
		"caller recursion": "{% macro f() %}{% call f() %}{% endcall %}{% endmacro %}{{ f() }}",
		"loop recursion":   "{% for a in x recursive %}{{ loop(x) }}{% endfor %}",
		"doubling":         "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"doubling by join": "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
		"doubling lists":   "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
		"doubling nested":  "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
		"doubling tojson":  "{% set ns = namespace(s=['abc']) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
		"doubling equal":   "{% set a = namespace(s=[1]) %}{% set b = namespace(s=[1]) %}{% for i in range(100) %}{% set a.s = [a.s, a.s] %}{% set b.s = [b.s, b.s] %}{% endfor %}{{ a.s == b.s }}",
		"nested value":     "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
		"repeat":           "{{ 'x' * 10 ** 15 }}",
		"repeat list":      "{{ [1] * 10 ** 15 }}",
		"replace":          "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}",
		"replace nothing":  "{% set s = 'a' * 1000000 %}{{ s.replace('', s) }}",
		"center":           "{{ 'x'.center(10 ** 15) }}",
		"indent":           "{% set s = 'a\\n' * 1000000 %}{{ s|indent(60000) }}",
		"join":             "{% set s = 'a' * 1000000 %}{{ range(100000)|join(s) }}",
		"parentheses":      "{{ " + deep("(", ")", 40_000) + " }}",
		"brackets":         "{{ " + deep("[", "]", 40_000) + " }}",
		"not":              "{{ " + strings.Repeat("not ", 40_000) + "1 }}",
		"minus":            "{{ " + strings.Repeat("-", 40_000) + "1 }}",
		"plus":             "{{ 1" + strings.Repeat("+1", 40_000) + " }}",
		"or":               "{{ 1" + strings.Repeat(" or 1", 40_000) + " }}",
		"attributes":       "{{ x" + strings.Repeat(".a", 40_000) + " }}",
		"filters":          "{{ x" + strings.Repeat("|string", 40_000) + " }}",
		"inline if":        "{{ 1" + strings.Repeat(" if 1 else 1", 40_000) + " }}",
		"ifs":              strings.Repeat("{% if 1 %}", 20_000) + strings.Repeat("{% endif %}", 20_000),
		"elifs":            "{% if 1 %}" + strings.Repeat("{% elif 1 %}", 20_000) + "{% endif %}",
		"targets":          "{% set " + strings.Repeat("(", 40_000) + "x" + strings.Repeat(")", 40_000) + " = 1 %}",
		"size":             strings.Repeat(" ", 2<<20),
		"pow":              "{{ 10 ** 100 }}",
		"overflow":         "{{ 9223372036854775807 + 1 }}",
		"map of maps":      "{{ range(100000)|map('string')|map('replace', '', 'x' * 10000)|join }}",
	} {
		start := time.Now()
		tmpl, err := Parse(source)
		if err == nil {
			tmpl.Limits = Limits{Steps: 1_000_000, Bytes: 64 << 20, Depth: 100}
			_, err = tmpl.Render(vars(t, []byte(`{"x": [1]}`)))
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "internal") || len(err.Error()) > 500 {
			t.Errorf("%s: %.500s", name, err)
		} else if testing.Verbose() {
			t.Logf("%-16s %8v %v", name, time.Since(start).Round(time.Millisecond), err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
}

func TestJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"z": 1, "a": 2.0, "m": [1, 2.50, -0, -0.0, 1e5, 1E-7, 1e16, 12345678901234567890, true, null, "é\n"]}`,
			`{"z": 1, "a": 2.0, "m": [1, 2.5, 0, -0.0, 100000.0, 1e-07, 1e+16, 12345678901234567890, true, null, "é\n"]}`},
		{`{"a": 1, "b": 2, "a": 3}`, `{"a": 3, "b": 2}`},
		{`"\ud83d\ude00\u00e9<>&\u2028"`, "\"😀é<>&\u2028\""},
		{`1e999`, `Infinity`},
	} {
		v, err := ParseJSON([]byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		d := new(Dict)
		d.Set("v", v)
		tmpl, err := Parse("{{ v|tojson }}")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Render(d); err != nil || got != c.want {
			t.Errorf("%s: %s, %v, want %s", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "{", `{"a"}`, "[1,]", "1 2", "nul", strings.Repeat("[", 40_000), `{"a":1,}`, "{]", `{1:2}`} {
		if _, err := ParseJSON([]byte(bad)); err == nil {
			t.Errorf("%.20q is accepted", bad)
		}
	}
}

func TestStrftime(t *testing.T) {
	tmpl, err := Parse("{{ strftime_now('%Y-%m-%d %d %B %-d %H:%M:%S %j %%') }}")
	if err != nil {
		t.Fatal(err)
	}
	tmpl.Now = func() time.Time { return time.Date(2025, 4, 3, 14, 5, 6, 0, time.UTC) }
	if got, err := tmpl.Render(new(Dict)); err != nil || got != "2025-04-03 03 April 3 14:05:06 093 %" {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzRender: no template may panic, crash or hang.
func FuzzRender(f *testing.F) {
	data, err := os.ReadFile("testdata/jinja2_cases.json")
	if err != nil {
		f.Fatal(err)
	}
	var file struct {
		Context json.RawMessage
		Cases   []struct{ Template string }
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&file); err != nil {
		f.Fatal(err)
	}
	for _, c := range file.Cases {
		f.Add(c.Template)
	}
	ctx := vars(f, file.Context)
	f.Fuzz(func(t *testing.T, source string) {
		tmpl, err := Parse(source)
		if err != nil {
			return
		}
		tmpl.Limits = Limits{Steps: 100_000, Bytes: 1 << 20, Depth: 20}
		if _, err := tmpl.Render(ctx); err != nil && strings.Contains(err.Error(), "internal error") {
			t.Fatal(err)
		}
	})
}

func ExampleTemplate_Render() {
	tmpl, err := Parse("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, _ := ParseJSON([]byte(`{"messages": [{"role": "user", "content": "hi"}]}`))
	text, _ := tmpl.Render(ctx.(*Dict))
	fmt.Println(text)
	// Output: <user>hi
}
