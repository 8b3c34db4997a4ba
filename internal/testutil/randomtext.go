package testutil

import (
	"math/rand/v2"
	"strings"
)

// textParts are what tokenizers get wrong: contractions in odd case, every kind of space, marks, scripts, emoji, digits,
// added tokens whole and broken.
var textParts = []string{
	"the", " the", "Hello", "don't", "I'M", "we'LL", "'RE", "'ve", "'D", "'ſ", "it'ſ", "'s", "S'", "''ll", "K", "\u212a", "\u212b", "ſ", "ß",
	" ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", " \n", "\n ", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085", "\u180e", "\u200b", "\ufeff", "\u200d", "\u202f", "\v", "\f",
	"0", "42", "2024", "４２", "٣", "Ⅷ", "½", "²", "①", "𝟙",
	"é", "e\u0301", "\u0301", "\u0316\u0301", "a\u0345\u0301", "ǖ", "u\u0308\u0304", "\u0344", "क्षि", "नि", "\u0958", "ก็", "שָׁלוֹם", "مرحبا", "لله",
	"你好", "世界", "。", "，", "ひらがな", "が", "か\u3099", "カタカナ", "ｶﾞ", "한국어", "\u1112\u1161\u11ab", "\u1100\u1161", "\uac00\u11a8", "𠀀", "龍",
	"😀", "👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪", "☃️", "©", "€", "→",
	"!", "?!", "...", "—", "-", "_", "#", "()", "{}", "[]", "<", ">", "</", "==", "!=", "//", "/*", "\\n", "\"", "`", "```", "$", "%", "&", "@", "|", "~", "^", "*", "+", ";", ":",
	"<|im_start|>", "<|im_end|>", "<|im_end", "|im_end|>", "<think>", "</think>", "<tool_call>", "<tool", "<<|endoftext|>>", "<|endoftext|>",
	"русский", "Ελληνικά", "ǅ", "ʰ", "ª", "\U0001D400", "\U00010348", "\U000E0001", "\uE000", "\x00", "\x01", "\x7f", "\uFFFD", "\uFFFF",
	"func main() {", "\tif err != nil {\n", "return", "https://example.com/?q=1&b=2", "camelCase", "snake_case", "x1y2z3", "3.14159", "1e-6",
}

// RandomText returns a random text of up to 30 parts, each hostile to some tokenizer, with single random characters between.
func RandomText(rng *rand.Rand) string {
	var b strings.Builder
	for range rng.IntN(31) {
		switch rng.IntN(12) {
		case 0:
			b.WriteRune(RandomRune(rng))
		case 1:
			b.WriteString(strings.Repeat(textParts[rng.IntN(len(textParts))], 1+rng.IntN(12)))
		default:
			b.WriteString(textParts[rng.IntN(len(textParts))])
		}
	}
	return b.String()
}

// RandomRune returns a random Unicode scalar value, mostly of the BMP.
func RandomRune(rng *rand.Rand) rune {
	for {
		r := rune(rng.IntN(0x110000))
		if rng.IntN(4) != 0 {
			r &= 0xFFFF
		}
		if r < 0xD800 || r > 0xDFFF {
			return r
		}
	}
}
