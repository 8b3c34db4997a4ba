// Package sampling chooses the next token from a row of logits on the CPU.
//
// It owns the order of penalties, bias, temperature and filters, and the random numbers; it is what the GPU's sampling
// kernel is tested against. In a token's trip it stands between lm_head and Commit. Pure Go, no goroutines, no clock.
//
// # Order of operations
//
// On the scores s = logits, ids from AllowedVocab up removed:
//
//  1. repetition penalty, for every distinct token of prompt and generated text: s/r if s > 0, else s*r
//     (transformers' RepetitionPenaltyLogitsProcessor);
//  2. frequency and presence penalty, for every distinct generated token: s -= count*f + p
//     (OpenAI's definition; the prompt does not count);
//  3. logit bias: s += b; a bias of -Inf removes the token;
//  4. temperature: w = exp((s-max s)/T). With T = 0 the largest s is the result and the rest does not apply;
//  5. top-k: the k largest s stay;
//  6. top-p: of those, in descending order, a token stays while the weights before it are less than p times their sum
//     (transformers' TopPLogitsWarper: the smallest set that reaches p, at least one token);
//  7. min-p: a token stays if w >= minP (the largest w is 1);
//  8. draw: with W the sum of the weights that stayed and u from Uniform, the first token, in descending order of s, at
//     which the running sum exceeds u*W.
//
// Wherever scores are equal the lower id comes first, so exactly k tokens pass top-k.
//
// With top-k the weights are float64 here, few, and added in order. Where all ids may be drawn (no top-k, or k of at least
// as many) steps 4 and 6 to 8 are integer arithmetic, so that sums do not depend on the order of addition and a GPU draws
// the same token (full.go, FullDraw):
//
//   - x = (max s - s)*log2(e)/T, difference and product rounded to float32, then rounded down to 25 bits behind the point, is
//     a token's distance, by which it stands in order: distances that round to the same are equal, and the lower id comes
//     first;
//   - w = 2^-x, with 32 significant bits and in steps so fine that 2^63 holds the sum of all (for 151,936 ids the largest w
//     is 2^45 of them); it is 0 from x = 64 on;
//   - p and u are multiples of 2^-32, products with sums are rounded down.
//
// # Log-probabilities
//
// Result.LogProb and Result.Top are log_softmax of the raw logits over the whole row: before penalties, bias,
// temperature and filters, and with the ids from AllowedVocab up in the denominator, as transformers' log_softmax of
// outputs.logits. Top does not list ids from AllowedVocab up.
package sampling
