//go:build hftokenizers

package hf

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
)

var load = sync.OnceValues(func() (pair, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return pair{}, err
	}
	theirs, err := Load(data)
	if err != nil {
		return pair{}, err
	}
	ours, err := tokenizer.Load(data)
	return pair{theirs, ours}, err
})

var path string

type pair struct {
	theirs *Tokenizer
	ours   *tokenizer.Tokenizer
}

func both(tb testing.TB) pair {
	tb.Helper()
	path = testutil.Shared(tb, "qwen3/qwen3-tokenizer.json")
	p, err := load()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// same holds both tokenizers to the same ids for text, and to the same text for these ids.
func (p pair) same(t *testing.T, text string, opts tokenizer.EncodeOptions) []int32 {
	t.Helper()
	want, err := p.theirs.EncodeWith(text, opts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.ours.EncodeWith(text, opts)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+q %+v:\n ours %v\nHF's %v", text, opts, got, want)
		return want
	}
	p.sameText(t, want)
	return want
}

func (p pair) sameText(t *testing.T, ids []int32) {
	t.Helper()
	want, err := p.theirs.Decode(ids)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.ours.Decode(ids); err != nil || got != want {
		t.Errorf("decode %v:\n ours %+q, %v\nHF's %+q", ids, got, err, want)
	}
}

func TestGolden(t *testing.T) {
	p := both(t)
	data, err := os.ReadFile(testutil.Shared(t, "qwen3/tokenizer_golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Text string
		IDs  []int32
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		if strings.Contains(c.Text, "\x00") {
			continue
		}
		if got := p.same(t, c.Text, tokenizer.EncodeOptions{}); !slices.Equal(got, c.IDs) {
			t.Errorf("%q: HF's %v, golden %v", c.Text, got, c.IDs)
		}
		p.same(t, c.Text, tokenizer.EncodeOptions{NoSpecial: true})
	}
}

// newerThanLibrary tells whether the library's regex engine and normalizer may know less of Unicode than Go does.
func newerThanLibrary(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool {
		return differs[r] || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.C)
	}) >= 0
}

var differs = map[rune]bool{}

// TestEveryCharacter compares every Unicode character between letters, marks, digits, spaces and punctuation.
func TestEveryCharacter(t *testing.T) {
	p := both(t)
	n := 0
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if r >= 0xD800 && r <= 0xDFFF {
			continue
		}
		c := string(r)
		text := "a" + c + "b 1" + c + c + " " + c + "!'" + c + "\n" + c + "\u0301 '" + c + "l"
		want, err := p.theirs.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.ours.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			n++
			t.Logf("%U", r)
		}
	}
	t.Logf("%d characters differ", n)
}

func TestRandomTexts(t *testing.T) {
	p := both(t)
	rng := rand.New(rand.NewPCG(11, 12))
	for range 20000 {
		text := strings.ReplaceAll(testutil.RandomText(rng), "\x00", "")
		p.same(t, text, tokenizer.EncodeOptions{NoSpecial: rng.IntN(4) == 0})
	}
}
