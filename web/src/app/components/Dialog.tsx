// A modal dialog on the browser's own <dialog>: focus is kept inside and given back, Escape and a click beside it close it.

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { IconButton } from "./Button";

export function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  const closed = useRef(false);
  // At once: a close event comes later, and would close what was opened meanwhile.
  const close = () => {
    if (closed.current) return;
    closed.current = true;
    ref.current?.close();
    onClose();
  };
  useLayoutEffect(() => {
    const opener = document.activeElement;
    ref.current?.showModal();
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      aria-labelledby="dialog-title"
      onCancel={close}
      onClose={close}
      onPointerDown={(e) => {
        if (e.target === ref.current) close();
      }}
    >
      <div class="dialog">
        <header>
          <h2 id="dialog-title">{title}</h2>
          <IconButton icon="close" label="Close" onClick={close} />
        </header>
        <div class="dialog-body">{children}</div>
      </div>
    </dialog>
  );
}
