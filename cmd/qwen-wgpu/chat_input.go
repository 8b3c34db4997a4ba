package main

// How messages reach chat: typed on a terminal with editing and history, or lines of a pipe.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ergochat/readline"
	"golang.org/x/term"
)

// chatInput gives one message after the other; io.EOF ends the conversation.
type chatInput interface {
	message() (string, error)
	interactive() bool
	close()
}

func newChatInput(in io.Reader) (chatInput, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) && isTerminal(os.Stdout) {
		return newTypedInput(f)
	}
	return &pipedInput{in: in, r: bufio.NewReader(in)}, nil
}

// joinLines reads a message of one or more lines: a backslash at its end joins a line with the next, and """ begins and ends
// a block.
func joinLines(line func(first bool) (string, error)) (string, error) {
	text, err := line(true)
	if err != nil {
		return text, err
	}
	if rest, ok := strings.CutPrefix(text, `"""`); ok {
		for text = rest; ; {
			if block, ok := strings.CutSuffix(strings.TrimRight(text, " \t"), `"""`); ok {
				return strings.Trim(block, "\n"), nil
			}
			next, err := line(false)
			if err != nil {
				return text, err
			}
			text += "\n" + next
		}
	}
	for strings.HasSuffix(text, `\`) {
		next, err := line(false)
		if err != nil {
			return text, err
		}
		text = text[:len(text)-1] + "\n" + next
	}
	return text, nil
}

type pipedInput struct {
	in io.Reader
	r  *bufio.Reader
}

func (p *pipedInput) interactive() bool { return false }

func (p *pipedInput) close() {
	if c, ok := p.in.(io.Closer); ok {
		c.Close()
	}
}

func (p *pipedInput) message() (string, error) {
	return joinLines(func(first bool) (string, error) {
		line, err := p.r.ReadString('\n')
		if errors.Is(err, io.EOF) && line != "" {
			err = nil // the last line needs no newline
		}
		if errors.Is(err, io.EOF) && !first {
			err = fmt.Errorf("the input ends inside a message of several lines: %w", io.ErrUnexpectedEOF)
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), err
	})
}

const (
	prompt         = ">>> "
	continuePrompt = "... "
	// newlineMark stands for a newline inside one line of the editor: in pasted text, and in the history.
	newlineMark = "⏎"
	// What switches a terminal's bracketed paste on and off.
	pasteOn, pasteOff = "\x1b[?2004h", "\x1b[?2004l"
)

// typedInput is a terminal.
type typedInput struct {
	rl          *readline.Instance
	typed       bool // the line being edited is not empty
	interrupted bool // the last key was Ctrl-C on an empty line
}

func newTypedInput(in *os.File) (*typedInput, error) {
	var commands []*readline.PrefixCompleter
	for _, c := range chatCommands {
		name := c.name
		if c.args != "" {
			name += " "
		}
		commands = append(commands, readline.PcItem(name))
	}
	t := &typedInput{}
	var err error
	t.rl, err = readline.NewFromConfig(&readline.Config{
		Prompt: prompt, HistoryFile: historyFile(), DisableAutoSaveHistory: true,
		AutoComplete: readline.NewPrefixCompleter(commands...), Stdin: &pasteReader{r: in}, InterruptPrompt: "\n", EOFPrompt: "\n",
		Listener: func(line []rune, _ int, _ rune) ([]rune, int, bool) {
			t.typed = len(line) > 0
			return nil, 0, false
		},
	})
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return t, nil
}

func (t *typedInput) interactive() bool { return true }
func (t *typedInput) close()            { t.rl.Close() }

func (t *typedInput) message() (string, error) {
	fmt.Fprint(os.Stdout, pasteOn)
	defer fmt.Fprint(os.Stdout, pasteOff)
	for {
		lines := 0
		text, err := joinLines(func(first bool) (string, error) {
			t.rl.SetPrompt(map[bool]string{true: prompt, false: continuePrompt}[first])
			line, err := t.rl.ReadLine()
			lines++
			return strings.ReplaceAll(line, newlineMark, "\n"), err
		})
		if !errors.Is(err, readline.ErrInterrupt) {
			t.interrupted = false
			if err == nil && strings.TrimSpace(text) != "" {
				_ = t.rl.SaveToHistory(strings.ReplaceAll(text, "\n", newlineMark)) // a history that cannot be written is no reason to stop
			}
			return text, err
		}
		if t.typed || lines > 1 { // Ctrl-C drops what was typed
			t.interrupted = false
			continue
		}
		if t.interrupted {
			return "", io.EOF
		}
		t.interrupted = true
		fmt.Fprintln(os.Stderr, "(Ctrl-C again or Ctrl-D leaves)")
	}
}

// historyFile is where lines are remembered, in the user's state directory; "" when there is none.
func historyFile() string {
	dir := os.Getenv("XDG_STATE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".local", "state")
		if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
			if dir, err = os.UserConfigDir(); err != nil {
				return ""
			}
		}
	}
	dir = filepath.Join(dir, "qwen-wgpu")
	file := filepath.Join(dir, "history")
	if os.MkdirAll(dir, 0o700) != nil {
		return ""
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600) // others need not read it
	if err != nil {
		return ""
	}
	f.Close()
	return file
}

// pasteReader reads keys from a terminal and turns the newlines of pasted text into newlineMark, so that a paste of several
// lines is one message.
type pasteReader struct {
	r       io.Reader
	pasting bool
	held    []byte // what may be the beginning of a marker
	ready   []byte
	buf     [4096]byte
}

var pasteBegin, pasteEnd = []byte("\x1b[200~"), []byte("\x1b[201~")

func (p *pasteReader) Read(out []byte) (int, error) {
	for len(p.ready) == 0 {
		n, err := p.r.Read(p.buf[:])
		p.feed(p.buf[:n])
		if err != nil && len(p.ready) == 0 {
			return 0, err
		}
	}
	n := copy(out, p.ready)
	p.ready = p.ready[n:]
	return n, nil
}

func (p *pasteReader) feed(in []byte) {
	text := append(p.held, in...)
	p.held = nil
	for len(text) > 0 {
		marker := pasteBegin
		if p.pasting {
			marker = pasteEnd
		}
		i := bytes.Index(text, marker)
		if i >= 0 {
			p.pass(text[:i])
			p.pasting, text = !p.pasting, text[i+len(marker):]
			continue
		}
		end := len(text)
		for n := len(marker) - 1; n >= 3; n-- { // a shorter beginning is a key
			if bytes.HasSuffix(text, marker[:n]) {
				end -= n
				break
			}
		}
		p.held = bytes.Clone(text[end:])
		p.pass(text[:end])
		return
	}
}

func (p *pasteReader) pass(text []byte) {
	if p.pasting {
		text = []byte(strings.NewReplacer("\r\n", newlineMark, "\r", newlineMark, "\n", newlineMark, "\t", "    ").Replace(string(text)))
	}
	p.ready = append(p.ready, text...)
}
