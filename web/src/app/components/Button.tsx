// A button that shows an icon and says its label to a screen reader and as a tooltip.

import { Icon, type IconName } from "./icons";

interface Props {
  icon: IconName;
  label: string;
  onClick: (event: MouseEvent) => void;
  class?: string;
  disabled?: boolean;
  pressed?: boolean;
  expanded?: boolean;
}

export function IconButton({ icon, label, onClick, disabled, pressed, expanded, ...rest }: Props) {
  return (
    <button
      type="button"
      class={`icon-button ${rest.class ?? ""}`}
      aria-label={label}
      title={label}
      disabled={disabled}
      aria-pressed={pressed}
      aria-expanded={expanded}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}
