// autoGrow makes a textarea as high as its text; CSS sets the most.
export function autoGrow(area: HTMLTextAreaElement): void {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}
