package main

// eval: questions with known answers, a table of how many were right.

import (
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/qwen-wgpu/qwen-wgpu/engine/eval"
)

func newEval() *cobra.Command {
	var f modelFlags
	var questionsFile, out, compare string
	var kinds []string
	var subset, wrong bool
	cmd := &cobra.Command{
		Use:   "eval --questions FILE.jsonl",
		Short: "Ask questions with known answers and count",
		Long: fmt.Sprintf(`eval asks a model the questions of a file, decoding greedily, and prints how many answers are exactly right, by kind.
It ends with status 1 when fewer than %.0f%% are right in all, or fewer than %.0f%% of a kind, or when fewer than %.0f%% of the
answers equal those of --compare. The questions in testdata/tiny-eval are for the model inside this program.`, 100*eval.BarOverall, 100*eval.BarKind, 100*eval.BarSame),
		Example: `  qwen-wgpu eval --questions testdata/tiny-eval/questions.jsonl --device cpu --out cpu.jsonl
  qwen-wgpu eval --questions testdata/tiny-eval/questions.jsonl --device gpu --compare cpu.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if questionsFile == "" {
				return usagef(cmd, "give --questions FILE.jsonl")
			}
			questions, err := readFile(questionsFile, eval.ReadQuestions)
			if err != nil {
				return err
			}
			if subset {
				questions = eval.Subset(questions)
			}
			if len(kinds) > 0 {
				questions = slices.DeleteFunc(questions, func(q eval.Question) bool { return !slices.Contains(kinds, q.Kind) })
			}
			if len(questions) == 0 {
				return fmt.Errorf("%s: no question is left to ask", questionsFile)
			}
			var other []eval.Answer
			if compare != "" {
				if other, err = readFile(compare, eval.ReadAnswers); err != nil {
					return err
				}
			}
			e, err := f.open(cmd)
			if err != nil {
				return err
			}
			defer e.Close()
			start, asked := time.Now(), 0
			answers, err := eval.Run(cmd.Context(), e.Engine, questions, func(a eval.Answer) {
				if asked++; asked%100 == 0 {
					fmt.Fprintf(cmd.ErrOrStderr(), "%d of %d answered, %.0f s\n", asked, len(questions), time.Since(start).Seconds())
				}
				if wrong && !a.Right {
					fmt.Fprintf(cmd.ErrOrStderr(), "%s: %q %q %v\n", a.ID, a.Reasoning, a.Content, a.ToolCalls)
				}
			})
			if err != nil {
				return err
			}
			if out != "" {
				if err := writeAnswers(out, answers); err != nil {
					return err
				}
			}
			printTally(cmd.OutOrStdout(), answers)
			fmt.Fprintf(cmd.OutOrStdout(), "%d questions in %.0f s\n", len(answers), time.Since(start).Seconds())
			if other != nil {
				same, err := eval.CountSame(answers, other)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%d of %d answers equal those of %s\n", same, len(answers), compare)
				if float64(same) < eval.BarSame*float64(len(answers)) {
					return fmt.Errorf("eval: only %d of %d answers equal those of %s, at least %.0f%% are needed", same, len(answers), compare, 100*eval.BarSame)
				}
			}
			return eval.CheckBars(answers)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&questionsFile, "questions", "", "questions, one JSON object a line")
	cmd.Flags().BoolVar(&subset, "subset", false, "ask only the questions marked as the subset")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "ask only questions of these kinds")
	cmd.Flags().BoolVar(&wrong, "wrong", false, "print the wrong answers as they come")
	cmd.Flags().StringVar(&out, "out", "", "write the answers to this file, one JSON object a line")
	cmd.Flags().StringVar(&compare, "compare", "", "count the answers that equal those in this file, an --out of another run")
	return cmd
}

func readFile[T any](name string, read func(io.Reader) ([]T, error)) ([]T, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	v, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

func writeAnswers(name string, answers []eval.Answer) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := eval.WriteAnswers(file, answers); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}

func printTally(w io.Writer, answers []eval.Answer) {
	kinds, all := eval.Tally(answers)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "kind\tright\tof\tshare\t")
	for _, c := range append(kinds, all) {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.1f%%\t\n", c.Kind, c.Right, c.All, 100*c.Share())
	}
	table.Flush()
}
