// A Markdown text as blocks; while it streams only the blocks that changed are rendered again, so a selection survives.

import type { Token } from "marked";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { blocks, renderBlock } from "../markdown";

export function Markdown({ text }: { text: string }) {
  const tokens = useMemo(() => blocks(text), [text]);
  return (
    <div class="markdown" onClick={copyCode}>
      {tokens.map((token, i) => (
        <Block key={i} token={token} />
      ))}
    </div>
  );
}

function Block({ token }: { token: Token }) {
  const ref = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => ref.current?.replaceChildren(renderBlock(token)), [token.raw]);
  return <div class="block" ref={ref} />;
}

// copyCode answers for every code block's copy button.
function copyCode(event: MouseEvent): void {
  const button = event.target instanceof Element ? event.target.closest(".code-copy") : null;
  const code = button?.closest(".code")?.querySelector("pre")?.textContent;
  if (!button || code === undefined || code === null) return;
  void navigator.clipboard.writeText(code).then(
    () => (button.textContent = "Copied"),
    () => (button.textContent = "Not allowed"),
  );
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
