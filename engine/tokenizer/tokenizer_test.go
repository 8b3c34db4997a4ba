package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/qwen-wgpu/qwen-wgpu/internal/testutil"
)

// real returns Qwen3's own tokenizer, loaded once.
func real(tb testing.TB) *Tokenizer {
	tb.Helper()
	path := testutil.Shared(tb, "qwen3/qwen3-tokenizer.json")
	realOnce.Do(func() {
		data, err := os.ReadFile(path)
		if err == nil {
			realTokenizer, err = Load(data)
		}
		realErr = err
	})
	if realErr != nil {
		tb.Fatal(realErr)
	}
	return realTokenizer
}

var (
	realOnce      sync.Once
	realTokenizer *Tokenizer
	realErr       error
)

type goldenCase struct {
	Src  string  `json:"src"`
	Text string  `json:"text"`
	IDs  []int32 `json:"ids"`
}

func goldenCases(tb testing.TB) []goldenCase {
	tb.Helper()
	data, err := os.ReadFile(testutil.Shared(tb, "qwen3/tokenizer_golden.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var cases []goldenCase
	if err := json.Unmarshal(data, &cases); err != nil {
		tb.Fatal(err)
	}
	return cases
}

func TestGolden(t *testing.T) {
	tok := real(t)
	cases := goldenCases(t)
	if len(cases) < 300 {
		t.Fatalf("%d cases, want at least 300", len(cases))
	}
	for i, c := range cases {
		for range 2 { // the second time from the cache
			ids, err := tok.Encode(c.Text)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ids, c.IDs) {
				t.Errorf("case %d (%s) %q:\n got %v\nwant %v", i, c.Src, c.Text, ids, c.IDs)
			}
		}
		text, err := tok.Decode(c.IDs)
		if err != nil {
			t.Fatal(err)
		}
		if text != norm.NFC.String(c.Text) {
			t.Errorf("case %d (%s): decoded %q, want %q", i, c.Src, text, norm.NFC.String(c.Text))
		}
	}
}

func TestVocabulary(t *testing.T) {
	tok := real(t)
	if got := tok.VocabSize(); got != 151669 {
		t.Errorf("VocabSize %d, want 151669", got)
	}
	for _, c := range []struct {
		id      int32
		token   string
		bytes   string
		special bool
	}{
		{0, "!", "!", false}, {198, "Ċ", "\n", false}, {220, "Ġ", " ", false}, {279, "Ġthe", " the", false},
		{151642, "â½Ĺ", "\u2f57", false}, {151643, "<|endoftext|>", "<|endoftext|>", true},
		{151645, "<|im_end|>", "<|im_end|>", true}, {151667, "<think>", "<think>", false},
	} {
		if token, ok := tok.IDToToken(c.id); !ok || token != c.token {
			t.Errorf("IDToToken(%d) = %q, %v, want %q", c.id, token, ok, c.token)
		}
		if id, ok := tok.TokenToID(c.token); !ok || id != c.id {
			t.Errorf("TokenToID(%q) = %d, %v, want %d", c.token, id, ok, c.id)
		}
		if b, ok := tok.TokenBytes(c.id); !ok || string(b) != c.bytes {
			t.Errorf("TokenBytes(%d) = %q, %v, want %q", c.id, b, ok, c.bytes)
		}
		if tok.IsSpecial(c.id) != c.special {
			t.Errorf("IsSpecial(%d) = %v", c.id, !c.special)
		}
	}
	if added := tok.AddedTokens(); len(added) != 26 || added[0] != "</think>" || added[25] != "<|vision_start|>" {
		t.Errorf("AddedTokens %q", added)
	}
	for _, id := range []int32{-1, 151669, 151935, 1 << 30} {
		if _, ok := tok.IDToToken(id); ok {
			t.Errorf("IDToToken(%d) is defined", id)
		}
		if _, err := tok.Decode([]int32{0, id}); !errors.Is(err, ErrUnknownToken) {
			t.Errorf("Decode(%d): %v, want ErrUnknownToken", id, err)
		}
	}
	if _, ok := tok.TokenToID("no such token "); ok {
		t.Error("TokenToID found a token that is not there")
	}
}

func TestSpecialTextLiterally(t *testing.T) {
	tok := real(t)
	const text = "a<|im_end|>b<think>c"
	check := func(name string, opts EncodeOptions, wantAdded ...int32) {
		t.Helper()
		ids, err := tok.EncodeWith(text, opts)
		if err != nil {
			t.Fatal(err)
		}
		var added []int32
		for _, id := range ids {
			if id >= 151643 {
				added = append(added, id)
			}
		}
		if !slices.Equal(added, wantAdded) {
			t.Errorf("%s: added tokens %v, want %v", name, added, wantAdded)
		}
		if back, err := tok.Decode(ids); err != nil || back != text {
			t.Errorf("%s: decoded %q, %v", name, back, err)
		}
	}
	check("all", EncodeOptions{}, 151645, 151667)
	check("none", EncodeOptions{NoSpecial: true})
	check("end of im_end", EncodeOptions{Literal: []Span{{10, 11}}}, 151667)
	check("both", EncodeOptions{Literal: []Span{{0, 3}, {13, 14}}})
	check("between", EncodeOptions{Literal: []Span{{0, 1}, {11, 12}, {19, 20}}}, 151645, 151667)
	check("empty span", EncodeOptions{Literal: []Span{{4, 4}}}, 151645, 151667)
	for _, bad := range [][]Span{{{3, 2}}, {{0, 21}}, {{4, 6}, {5, 7}}, {{-1, 2}}} {
		if _, err := tok.EncodeWith(text, EncodeOptions{Literal: bad}); err == nil {
			t.Errorf("spans %v are accepted", bad)
		}
	}
}

func TestInvalidUTF8(t *testing.T) {
	tok := real(t)
	for _, c := range []struct{ in, want string }{
		{"a\xffb", "a\uFFFDb"},
		{"\xe4\xbd", "\uFFFD"},                           // one maximal part
		{"\xe4\xbdx\xf0\x9f\x98", "\uFFFDx\uFFFD"},       //
		{"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},           // a surrogate: no part of it is a prefix of a character
		{"\xf0\x80\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"}, // overlong
		{"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"}, // above U+10FFFF
		{"\xc0\xaf\xe0\x80\xbf", strings.Repeat("\uFFFD", 5)},
	} {
		got, err := tok.Encode(c.in)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := tok.Encode(c.want)
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want those of %q: %v", c.in, got, c.want, want)
		}
	}
	// Spans move with the text.
	ids, err := tok.EncodeWith("\xff\xff<think>\xff<think>", EncodeOptions{Literal: []Span{{2, 9}}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(ids); ids[n-1] != 151667 || slices.Contains(ids[:n-1], 151667) {
		t.Errorf("spans over repaired text: %v", ids)
	}
}

// TestLongPieces guards against quadratic merging: each text is one piece.
func TestLongPieces(t *testing.T) {
	tok := real(t)
	for _, c := range []struct{ name, unit string }{
		{"a", "a"}, {"space", " "}, {"newline", "\n"}, {"equals", "="}, {"CJK", "你好世界"}, {"letters", "abcdefghijklmnop"},
		{"marks", "\u0301\u0316"}, {"space newline", " \n"},
	} {
		text := strings.Repeat(c.unit, (1<<20)/len(c.unit))
		start := time.Now()
		ids, err := tok.Encode(text)
		took := time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-14s 1 MiB: %7d ids in %v", c.name, len(ids), took)
		if took > 5*time.Second { // quadratic merging takes minutes
			t.Errorf("%s: 1 MiB took %v", c.name, took)
		}
		back, err := tok.Decode(ids)
		if err != nil || back != nfc(text) {
			t.Errorf("%s: does not decode to its NFC (%v)", c.name, err)
		}
	}
}

// TestMergeLongMatchesShort holds the heap to the scan, which reads like the definition.
func TestMergeLongMatchesShort(t *testing.T) {
	tok := real(t)
	rng := rand.New(rand.NewPCG(1, 2))
	s := new(mergeScratch)
	for range 20000 {
		n := 2 + rng.IntN(maxShortPiece-1)
		b := make([]byte, n)
		alphabet := "etaoin shrdlu\xe4\xbd\xa0ab"[:2+rng.IntN(17)]
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		short := tok.mergeShort(nil, string(b))
		long := s.mergeLong(nil, tok, string(b))
		if !slices.Equal(short, long) {
			t.Fatalf("%q: scan %v, heap %v", b, short, long)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := real(t)
	cases := goldenCases(t)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range cases {
				c := cases[(i*7+g)%len(cases)]
				if ids, err := tok.Encode(c.Text); err != nil || !slices.Equal(ids, c.IDs) {
					t.Errorf("%q: %v", c.Text, err)
				}
			}
		})
	}
	wg.Wait()
}

// small returns a tokenizer.json with the byte alphabet, a few merges and two added tokens. edit may change it.
func small(edit func(m map[string]any)) []byte {
	vocab := map[string]int{}
	for b := range 256 {
		vocab[string(byteToRune[b])] = b
	}
	merges := [][2]string{{"a", "b"}, {"ab", "c"}, {"b", "c"}, {"Ġ", "a"}, {"Ġa", "b"}}
	for _, m := range merges {
		vocab[m[0]+m[1]] = len(vocab)
	}
	added := func(id int, content string, special, normalized bool) map[string]any {
		return map[string]any{"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": normalized, "special": special}
	}
	m := map[string]any{
		"version":      "1.0",
		"added_tokens": []any{added(300, "<|end|>", true, false), added(301, "<|end|>>", false, false)},
		"normalizer":   map[string]any{"type": "NFC"},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": qwenPattern}, "behavior": "Isolated", "invert": false},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
		}},
		"post_processor": nil,
		"decoder":        map[string]any{"type": "ByteLevel"},
		"model":          map[string]any{"type": "BPE", "vocab": vocab, "merges": merges},
	}
	if edit != nil {
		edit(m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

func TestSmallVocabulary(t *testing.T) {
	pairs, err := Load(small(nil))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := Load(small(func(m map[string]any) {
		m["model"].(map[string]any)["merges"] = []string{"a b", "ab c", "b c", "Ġ a", "Ġa b"}
	}))
	if err != nil {
		t.Fatal(err)
	}
	data := small(nil) // json.Marshal sorts keys: merges come before the vocabulary
	var top struct {
		Model struct{ Vocab, Merges json.RawMessage }
	}
	if err := json.Unmarshal(data, &top); err != nil {
		t.Fatal(err)
	}
	swapped := strings.Replace(string(data), `"merges":`+string(top.Model.Merges)+",", "", 1)
	swapped = strings.Replace(swapped, `"vocab":`+string(top.Model.Vocab), `"vocab":`+string(top.Model.Vocab)+`,"merges":`+string(top.Model.Merges), 1)
	behind, err := Load([]byte(swapped))
	if err != nil {
		t.Fatal(err)
	}
	for _, tok := range []*Tokenizer{pairs, lines, behind} {
		for _, c := range []struct {
			text string
			ids  []int32
		}{
			{"", nil},
			{"abc", []int32{257}},
			{"bc abc ab", []int32{258, ' ', 257, ' ', 256}}, // "ab" has the lowest rank, so "Ġa" never forms
			{"<|end|>abc<|end|>>", []int32{300, 257, 301}},
			{"<|end|", []int32{'<', '|', 'e', 'n', 'd', '|'}},
			{"\x00", []int32{0}},
		} {
			ids, err := tok.Encode(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ids, c.ids) {
				t.Errorf("%q: %v, want %v", c.text, ids, c.ids)
			}
		}
	}
}

func TestNormalizedAddedToken(t *testing.T) {
	tok, err := Load(small(func(m map[string]any) {
		m["added_tokens"] = []any{
			map[string]any{"id": 300, "content": "<é>", "normalized": true, "special": false},
			map[string]any{"id": 301, "content": "<x>", "normalized": false, "special": false},
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"<é>", "<e\u0301>"} {
		if ids, err := tok.Encode("<x>" + text + "a"); err != nil || !slices.Equal(ids, []int32{301, 300, 'a'}) {
			t.Errorf("%q: %v, %v", text, ids, err)
		}
	}
}

func TestPostProcess(t *testing.T) {
	tok, err := Load(small(func(m map[string]any) {
		m["post_processor"] = map[string]any{"type": "Sequence", "processors": []any{
			map[string]any{"type": "ByteLevel", "add_prefix_space": false},
			map[string]any{"type": "TemplateProcessing",
				"single":         []any{map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}, map[string]any{"SpecialToken": map[string]any{"id": "<|end|>", "type_id": 0}}},
				"pair":           []any{},
				"special_tokens": map[string]any{"<|end|>": map[string]any{"id": "<|end|>", "ids": []int{300}, "tokens": []string{"<|end|>"}}},
			},
		}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := tok.EncodeWith("abc", EncodeOptions{PostProcess: true}); err != nil || !slices.Equal(ids, []int32{257, 300}) {
		t.Errorf("%v, %v", ids, err)
	}
	if ids, err := tok.Encode("abc"); err != nil || !slices.Equal(ids, []int32{257}) {
		t.Errorf("%v, %v", ids, err)
	}
}

func TestLoadVocabulary(t *testing.T) {
	data := small(func(m map[string]any) { m["pre_tokenizer"] = map[string]any{"type": "Whitespace"} })
	if _, err := Load(data); err == nil {
		t.Error("another pretokenizer is accepted")
	}
	v, err := LoadVocabulary(data)
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := v.TokenToID("abc"); !ok || id != 257 || v.VocabSize() != 302 || !v.IsSpecial(300) {
		t.Errorf("abc is %d, %v; size %d", id, ok, v.VocabSize())
	}
	if _, err := LoadVocabulary([]byte("{}")); err == nil {
		t.Error("a file without tokens is accepted")
	}
}

func TestLoadRefuses(t *testing.T) {
	model := func(key string, value any) func(map[string]any) {
		return func(m map[string]any) { m["model"].(map[string]any)[key] = value }
	}
	top := func(key string, value any) func(map[string]any) {
		return func(m map[string]any) { m[key] = value }
	}
	for _, c := range []struct {
		name string
		edit func(map[string]any)
		want string
	}{
		{"other pattern", func(m map[string]any) {
			m["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[0].(map[string]any)["pattern"] = map[string]any{"Regex": `\w+|\d{1,3}`}
		}, `\\w+|\\d{1,3}`},
		{"gpt-2 pattern", top("pre_tokenizer", map[string]any{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}), `?\\p{L}+`},
		{"no pretokenizer", top("pre_tokenizer", nil), "must have Split"},
		{"prefix space", func(m map[string]any) {
			m["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)[1].(map[string]any)["add_prefix_space"] = true
		}, "add_prefix_space"},
		{"NFKC", top("normalizer", map[string]any{"type": "NFKC"}), `"NFKC"`},
		{"decoder", top("decoder", map[string]any{"type": "Metaspace"}), "decoder"},
		{"unigram", model("type", "Unigram"), `"Unigram"`},
		{"dropout", model("dropout", 0.1), "dropout"},
		{"byte fallback", model("byte_fallback", true), "byte_fallback"},
		{"prefix", model("continuing_subword_prefix", "##"), "##"},
		{"merge of nothing", model("merges", [][2]string{{"x", "y"}}), "merge 0"},
		{"merge without space", model("merges", []string{"xy"}), "merge 0"},
		{"missing byte", func(m map[string]any) { delete(m["model"].(map[string]any)["vocab"].(map[string]int), "a") }, "no token for byte 0x61"},
		{"two tokens of one id", func(m map[string]any) { m["model"].(map[string]any)["vocab"].(map[string]int)["a"] = 98 }, "id 98"},
		{"huge id", func(m map[string]any) { m["model"].(map[string]any)["vocab"].(map[string]int)["aa"] = 1 << 22 }, "4194304"},
		{"negative id", func(m map[string]any) { m["model"].(map[string]any)["vocab"].(map[string]int)["aa"] = -1 }, "an id"},
		{"lstrip", top("added_tokens", []any{map[string]any{"id": 300, "content": "<x>", "lstrip": true}}), "lstrip"},
		{"added id in use", top("added_tokens", []any{map[string]any{"id": 5, "content": "<x>"}}), "id 5"},
		{"negative added id", top("added_tokens", []any{map[string]any{"id": -5, "content": "<x>"}}), "-5"},
		{"post-processor", top("post_processor", map[string]any{"type": "BertProcessing"}), "BertProcessing"},
	} {
		if _, err := Load(small(c.edit)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	good := string(small(nil))
	for _, bad := range []string{"", "{", "[]", "null", good[:len(good)/2], good + "x", "\xff", `{"model":{"vocab":{"a":`, `{"model":{"vocab":[]}}`} {
		if _, err := Load([]byte(bad)); err == nil {
			t.Errorf("%.20q… is accepted", bad)
		}
	}
}

// FuzzLoad: no input may panic.
func FuzzLoad(f *testing.F) {
	f.Add(small(nil))
	f.Add([]byte(`{"model":{"vocab":{"\u0061\ud83d\ude00":1},"merges":["a b"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Load(data)
		if err != nil {
			return
		}
		if ids, err := tok.Encode("abc <|end|> é"); err != nil {
			t.Fatal(err)
		} else if _, err := tok.Decode(ids); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzRoundTrip: what is encoded decodes to its NFC, each stretch between added tokens on its own.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range nastyTexts {
		f.Add(s)
	}
	tok := real(f)
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			text, _ = repairUTF8(text, nil)
			if !utf8.ValidString(text) {
				t.Fatalf("repair left %q", text)
			}
		}
		checkRoundTrip(t, tok, text)
	})
}

func checkRoundTrip(t *testing.T, tok *Tokenizer, text string) {
	t.Helper()
	ids, err := tok.EncodeWith(text, EncodeOptions{NoSpecial: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tok.Decode(ids); err != nil || got != nfc(text) {
		t.Fatalf("NoSpecial %q: decoded %q, %v", text, got, err)
	}
	if ids, err = tok.Encode(text); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	tok.added.split(text, nil, func(s string) { want.WriteString(nfc(s)) }, func(id int32) {
		token, _ := tok.IDToToken(id)
		want.WriteString(token)
	})
	got, err := tok.Decode(ids)
	if err != nil || got != want.String() {
		t.Fatalf("%q: decoded %q, %v", text, got, err)
	}
	d := NewDetokenizer(tok)
	var streamed strings.Builder
	for _, id := range ids {
		streamed.WriteString(d.Push(id))
	}
	streamed.WriteString(d.Flush())
	if streamed.String() != got {
		t.Fatalf("%q: streamed %q", got, streamed.String())
	}
}

var nastyTexts = []string{
	"", " ", "  a", "\r\n\r\n x", "don't DON'T 'ſ 'S'T'RE'lL", "e\u0301<think>\u0301", "한국어 \u1112\u1161\u11ab", "👩‍👩‍👧‍👦 🏳️‍🌈",
	"\u00a0\u2003x\u3000\u2028y", "123４五Ⅷ½", "a\u0345\u0301\u0316" + strings.Repeat("\u0301", 40), "<|im_start|>user\n<|im_end|",
	"\x00\x01\x7f", "Å\u212b\u212a", "\u0344\u0958", "def f(x):\n    return x  # ok\n\n\n", "����",
}

func TestRoundTripRandom(t *testing.T) {
	tok := real(t)
	rng := rand.New(rand.NewPCG(7, 7))
	for _, s := range nastyTexts {
		checkRoundTrip(t, tok, s)
	}
	for range 5000 {
		checkRoundTrip(t, tok, testutil.RandomText(rng))
	}
}

// TestDetokenizerSplits pushes texts byte by byte and in every two-way split of their bytes, over the byte tokens.
func TestDetokenizerSplits(t *testing.T) {
	tok := real(t)
	texts := append([]string{"aé你😀z", "👩🏽‍🚀", "\xff", "\xe4\xbd", "a\xf0\x9f\x98", "\xf0\x9f\x98\xf0\x9f\x98\x80", "\xe4\xbdA\xc3", "\xed\xa0\x80\xf4\x90", "\xc3\xc3\xa9"}, nastyTexts...)
	for _, text := range texts {
		want := string(appendRepaired(nil, []byte(text)))
		d := NewDetokenizer(tok)
		var got strings.Builder
		for _, b := range []byte(text) {
			piece := d.Push(tok.vocab.bytes[b])
			if !utf8.ValidString(piece) {
				t.Fatalf("%q: half a character: %q", text, piece)
			}
			got.WriteString(piece)
		}
		if d.numHeld > 3 {
			t.Errorf("%q: %d bytes held", text, d.numHeld)
		}
		got.WriteString(d.Flush())
		if got.String() != want {
			t.Errorf("%q: streamed %q, want %q", text, got.String(), want)
		}
		for cut := range len(text) + 1 {
			v := halves{text[:cut], text[cut:]}
			d := NewDetokenizer(v)
			a, b := d.Push(0), d.Push(1)
			if !utf8.ValidString(a) || !utf8.ValidString(b) {
				t.Fatalf("%q cut at %d: %q, %q", text, cut, a, b)
			}
			if got := a + b + d.Flush(); got != want {
				t.Errorf("%q cut at %d: %q, want %q", text, cut, got, want)
			}
		}
	}
}

// halves is a Vocabulary of two tokens.
type halves [2]string

func (h halves) VocabSize() int                    { return 2 }
func (h halves) TokenToID(string) (int32, bool)    { return 0, false }
func (h halves) IDToToken(id int32) (string, bool) { return "", false }
func (h halves) AddedTokens() []string             { return nil }
func (h halves) IsSpecial(int32) bool              { return false }
func (h halves) TokenBytes(id int32) ([]byte, bool) {
	return []byte(h[id]), true
}

func TestDetokenizerSpecial(t *testing.T) {
	tok := real(t)
	ids := []int32{9707, 151645, 151667, 151669}
	show, skip := NewDetokenizer(tok), NewDetokenizer(tok)
	skip.SkipSpecial = true
	var shown, skipped string
	for _, id := range ids {
		shown += show.Push(id)
		skipped += skip.Push(id)
	}
	if shown != "Hello<|im_end|><think>\uFFFD" || skipped != "Hello<think>\uFFFD" {
		t.Errorf("shown %q, skipped %q", shown, skipped)
	}
}

// TestNFC holds nfc to x/text where that is right, and to Python's unicodedata where it is not.
func TestNFC(t *testing.T) {
	for r := rune(0); r <= 0x10FFFF; r++ {
		if r >= 0xD800 && r < 0xE000 {
			continue
		}
		s := string(r)
		if got, want := nfc(s), norm.NFC.String(s); got != want {
			t.Fatalf("%U: %+q, want %+q", r, got, want)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	alphabet := []rune("aeouAEKs ̵̧̖̈́̀́̂̈̊́ͅ각가ᄀ하ᅡ한ᆨᆫறÅΩKﬁ①がぱ゙゚は̛ơǖǘṩ̣̇ậ")
	for range 50000 {
		rs := make([]rune, 1+rng.IntN(12))
		for i := range rs {
			rs[i] = alphabet[rng.IntN(len(alphabet))]
		}
		if got, want := nfc(string(rs)), norm.NFC.String(string(rs)); got != want {
			t.Fatalf("%+q: %+q, want %+q", string(rs), got, want)
		}
	}
	for _, c := range [][2]string{ // made with Python 3.11's unicodedata (Unicode 14)
		{"a" + strings.Repeat("\u0316\u0301", 100), "\u00e1" + strings.Repeat("\u0316", 100) + strings.Repeat("\u0301", 99)},
		{"e\u09be\u031b\u0302\u0bcd", "e\u09be\u0bcd\u031b\u0302"},
		{"o\uff9e\u0335\u0307", "o\uff9e\u0335\u0307"},
		{"\U000e01af\u0300", "\U000e01af\u0300"},
		{"\u0bc6\u0bbe\u0301", "\u0bca\u0301"},
		{"\u0bc6\u0301\u0bbe", "\u0bc6\u0301\u0bbe"},
		{"\u1100\u1161\u0301\u11a8", "\uac00\u0301\u11a8"},
	} {
		if got := nfc(c[0]); got != c[1] {
			t.Errorf("%+q: %+q, want %+q", c[0], got, c[1])
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	data, err := os.ReadFile(testutil.Shared(b, "qwen3/qwen3-tokenizer.json"))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Load(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	tok := real(b)
	var text strings.Builder
	for _, c := range goldenCases(b) {
		text.WriteString(c.Text)
		text.WriteByte('\n')
	}
	for _, c := range []struct{ name, text string }{
		{"mixed", text.String()},
		{"long", strings.Repeat("a", 1<<20)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.text)))
			n := 0
			for b.Loop() {
				ids, err := tok.Encode(c.text)
				if err != nil {
					b.Fatal(err)
				}
				n += len(ids)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

func BenchmarkDetokenize(b *testing.B) {
	tok := real(b)
	var ids []int32
	for _, c := range goldenCases(b) {
		ids = append(ids, c.IDs...)
	}
	n := 0
	for b.Loop() {
		d := NewDetokenizer(tok)
		for _, id := range ids {
			n += len(d.Push(id))
		}
		n += len(d.Flush())
	}
	b.ReportMetric(float64(b.N)*float64(len(ids))/b.Elapsed().Seconds(), "tokens/s")
}

func ExampleTokenizer() {
	tok, err := Load(small(nil))
	if err != nil {
		fmt.Println(err)
		return
	}
	ids, _ := tok.Encode("abc<|end|>")
	text, _ := tok.Decode(ids)
	fmt.Println(ids, text)
	// Output: [257 300] abc<|end|>
}
