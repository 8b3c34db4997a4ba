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

	"golang.org/x/text/unicode/norm"

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
	if len(cases) != 305 {
		t.Errorf("%d cases, want 305", len(cases))
	}
	for _, c := range cases {
		if got := p.same(t, c.Text, tokenizer.EncodeOptions{}); !slices.Equal(got, c.IDs) {
			t.Errorf("%q: HF's %v, golden %v", c.Text, got, c.IDs)
		}
		p.same(t, c.Text, tokenizer.EncodeOptions{NoSpecial: true})
	}
}

// assigned tells whether Go's version of Unicode has the character; the library's tables are of several versions.
func assigned(r rune) bool {
	return unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf)
}

// newMarks are the characters whose combining class the library's normalizer, which has an older Unicode, does not know:
// it leaves them where they stand among other marks.
var newMarks = sync.OnceValue(func() map[rune]bool {
	p, err := load()
	if err != nil {
		return nil
	}
	marks := map[rune]bool{}
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if norm.NFC.PropertiesString(string(r)).CCC() == 0 {
			continue
		}
		text := "a" + string(r) + "\u0316\u0301" + string(r) + "\u0345" + string(r)
		want, err := p.theirs.Encode(text)
		if got, err2 := p.ours.Encode(text); err != nil || err2 != nil || !slices.Equal(got, want) {
			marks[r] = true
		}
	}
	return marks
})

// TestEveryCharacter compares every character between letters, marks, digits, spaces and punctuation.
func TestEveryCharacter(t *testing.T) {
	p := both(t)
	numNew := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !assigned(r) {
			continue
		}
		if newMarks()[r] {
			numNew++
			continue
		}
		c := string(r)
		p.same(t, "a"+c+"b 1"+c+c+" "+c+"!'"+c+"\n"+c+"\u0301\u0316"+c+" '"+c+"l", tokenizer.EncodeOptions{})
	}
	if numNew > 150 {
		t.Errorf("%d marks are put in another order", numNew)
	}
	t.Logf("%d marks are newer than the library's normalizer", numNew)
}

func TestRandomTexts(t *testing.T) {
	p := both(t)
	rng := rand.New(rand.NewPCG(11, 12))
	const n = 20000
	compared := 0
	for range n {
		text := testutil.RandomText(rng)
		if strings.IndexFunc(text, func(r rune) bool { return !assigned(r) || newMarks()[r] }) >= 0 {
			continue
		}
		compared++
		p.same(t, text, tokenizer.EncodeOptions{NoSpecial: rng.IntN(4) == 0})
	}
	if compared < n/4 {
		t.Errorf("only %d of %d texts are within Go's version of Unicode", compared, n)
	}
	t.Logf("%d texts compared", compared)
}
