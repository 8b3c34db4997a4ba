package engine

// What a model directory says about text: its tokenizer, its stop tokens, its sampling defaults.

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/qwen-wgpu/qwen-wgpu/engine/sampling"
	"github.com/qwen-wgpu/qwen-wgpu/engine/tokenizer"
	"github.com/qwen-wgpu/qwen-wgpu/engine/weights"
)

// ErrNoTokenizer is wrapped when text is asked of a model that was converted without tokenizer.json.
var ErrNoTokenizer = errors.New("the model has no tokenizer.json: only token ids can be given (--ids)")

// Tokenizer is the model's tokenizer, loaded on first use, or the one that Options gave.
func (e *Engine) Tokenizer() (tokenizer.Interface, error) {
	e.tokMu.Lock()
	defer e.tokMu.Unlock()
	if e.tok != nil {
		return e.tok, nil
	}
	if !e.model.HasTokenizer() {
		return nil, fmt.Errorf("engine: %w", ErrNoTokenizer)
	}
	data, err := e.model.ReadFile("tokenizer.json")
	if err != nil {
		return nil, fmt.Errorf("engine: tokenizer.json: %w", err)
	}
	t, err := tokenizer.Load(data)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	e.tok = t
	return t, nil
}

// definedVocab is the number of ids that the tokenizer defines; rows of lm_head from it up are padding. Without a tokenizer
// every row counts.
func (e *Engine) definedVocab() (int, error) {
	tok, err := e.Tokenizer()
	if errors.Is(err, ErrNoTokenizer) {
		return e.Config().VocabSize, nil
	}
	if err != nil {
		return 0, err
	}
	return min(tok.VocabSize(), e.Config().VocabSize), nil
}

// StopIDs are the tokens that end an answer: those of generation_config.json and of config.json.
func (e *Engine) StopIDs() []int32 {
	var ids []int32
	for _, list := range [][]int{e.model.Generation.EosTokenIDs, e.Config().EosTokenIDs} {
		for _, id := range list {
			if !slices.Contains(ids, int32(id)) {
				ids = append(ids, int32(id))
			}
		}
	}
	return ids
}

// DefaultSampling is what generation_config.json asks for: greedy where do_sample is false, and plain sampling
// (temperature 1) where the file says nothing.
func DefaultSampling(m *weights.Model) sampling.Params {
	g := m.Generation
	p := sampling.Default()
	set := func(to *float32, from *float32) {
		if from != nil {
			*to = *from
		}
	}
	set(&p.Temperature, g.Temperature)
	set(&p.TopP, g.TopP)
	set(&p.MinP, g.MinP)
	set(&p.RepetitionPenalty, g.RepetitionPenalty)
	set(&p.PresencePenalty, g.PresencePenalty)
	set(&p.FrequencyPenalty, g.FrequencyPenalty)
	if g.TopK != nil {
		p.TopK = *g.TopK
	}
	if g.DoSample != nil && !*g.DoSample {
		p.Temperature = 0
	}
	return p
}

// TextStream turns tokens into text as they are sampled: whole characters only, up to the first of its stop texts. It
// holds back what might be the beginning of one.
type TextStream struct {
	detok     *tokenizer.Detokenizer
	stops     []string
	generated strings.Builder
	held      string
	stopped   bool
}

// NewTextStream starts a stream that ends before the first of stops.
func NewTextStream(tok tokenizer.Interface, stops []string) *TextStream {
	return &TextStream{detok: tokenizer.NewDetokenizer(tok), stops: stops}
}

// Push adds a token and returns the text that is settled; stopped is true from the first stop text on, which is left out
// with all that follows.
func (s *TextStream) Push(id int32) (text string, stopped bool) { return s.add(s.detok.Push(id)) }

// Flush ends the stream and returns the text that was held back.
func (s *TextStream) Flush() string {
	text, _ := s.add(s.detok.Flush())
	text, s.held = text+s.held, ""
	return text
}

// Generated is all text of the tokens so far, stop texts included.
func (s *TextStream) Generated() string { return s.generated.String() }

func (s *TextStream) add(text string) (out string, stopped bool) {
	s.generated.WriteString(text)
	if s.stopped {
		return "", true
	}
	s.held += text
	at := -1
	for _, stop := range s.stops {
		if i := strings.Index(s.held, stop); stop != "" && i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		out, s.held, s.stopped = s.held[:at], "", true
		return out, true
	}
	keep := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > keep; n-- {
			if strings.HasSuffix(s.held, stop[:n]) {
				keep = n
				break
			}
		}
	}
	out, s.held = s.held[:len(s.held)-keep], s.held[len(s.held)-keep:]
	return out, false
}
